"""What readers see: tables, plots, live figures and lines of provenance; frames in, things to look at out."""

# isort: off
# fmt: off
from rfkit.report.answers import answer_table
from rfkit.report.live import explorer, explorer_presets, knob, knob_networks, network_link, stepper
from rfkit.report.plots import (
    beside, by_network, network_label, plot_accuracy_by_field, plot_accuracy_by_rate, plot_confusion, plot_field_boxes,
    plot_filters, plot_growth, plot_lines, plot_pattern, plot_patterns, use_style,
)
from rfkit.report.plots_landscape import (
    KINDS, plot_as_run, plot_density, plot_diagonals, plot_eigenvalues, plot_gradients, plot_line, plot_similarities,
    plot_similarity, plot_surface,
)
from rfkit.report.plots_pruning import (
    plot_by_width, plot_contrast_curves, plot_contrasts, plot_effective_fields, plot_kept_taps, plot_layer_sensitivity,
    plot_layer_sparsity, plot_networks, plot_probes, plot_published_networks, plot_starved, plot_taps,
    plot_two_ways, plot_usable_rates,
)
from rfkit.report.summaries import (
    RANKINGS, blocks_table, breaking_point_table, changed_network_table, control_table, cost_table, curvature_table,
    gradient_table, halves_table, leads_table, level_table, matched_table, one_position_table, predicted_table,
    protocol_table, published_networks_table, recipe_table, recorded_table, rerun_table, sharpness_variant_table,
    similarity_table, spare_layer_table, spectrum_table, stage_table, trend_table, two_ways_table,
    untrained_spectrum_table, unused_rows_table, usable_weight_table, width_table,
)
from rfkit.report.views import (
    Table, Tabs, environment_line, glance, importance_line, named, provenance_line, recipe_line, show_code,
    show_importance_table, show_paper_table, show_paper_tables,
)
