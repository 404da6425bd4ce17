"""Claims: what the paper says, as tests on our runs, on the author's and on the printed numbers; and the contrasts."""

from rfkit.claims.contrasts import Finding, contrast_table, dead_weight_table, geometry_table, judge_contrasts
from rfkit.claims.evidence import Evidence, evidence_of_author, evidence_of_runs, evidence_of_study, seeds_behind_tables
from rfkit.claims.judging import CLAIMS, CONTRADICTED, SUPPORTED, UNDECIDED, Verdict, judge
from rfkit.claims.ledger import detail_table, verdict_table
from rfkit.claims.printed import judge_printed
