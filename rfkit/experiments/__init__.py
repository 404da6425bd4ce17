"""The experiment core: one store, one registry of analyses, finding, making and recording.

What trains or measures (`rfkit.experiments.runner`) is imported when it is used: records are read without PyTorch.
"""

# isort: off
# fmt: off
from rfkit.experiments.analysis import (
    CELL, Analysis, Work, describe, inside_block, paper_dataset, refuse_same_size, rows_of,
)
from rfkit.experiments.finding import (
    WIDTHS, Unit, command, find, find_contrasts, frame, load, recorded, recorded_at_widths, records_of, unit_of, units,
)
from rfkit.experiments.gradient_projection import MAIN as DEFINITIONS
from rfkit.experiments.gradient_projection import fitted_to_first
from rfkit.experiments.pair import of_author as author_similarities
from rfkit.experiments.recipes import networks as recipe_networks
from rfkit.experiments.recipes import variants as recipe_variants
from rfkit.experiments.registry import ANALYSES, named
from rfkit.experiments.results import Request, TooLongError, follow, measure, measured, record_results, requests
from rfkit.experiments.spectrum import STAGES
from rfkit.experiments.store import BusyError, Run, Store, record, verify
from rfkit.experiments.study import ensure, jobs_of, plan
