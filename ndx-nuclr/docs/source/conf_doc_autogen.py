"""Settings of hdmf_generate_format_docs."""

from pathlib import Path

from pynwb import get_type_map
from pynwb.spec import NWBDatasetSpec, NWBGroupSpec, NWBNamespace

_docs = Path(__file__).parent
spec_input_spec_dir = str(_docs.parents[1] / "spec")
spec_input_namespace_filename = "ndx-nuclr.namespace.yaml"
spec_input_default_namespace = "ndx-nuclr"
spec_output_dir = str(_docs / "_format_auto_docs")
spec_output_master_filename = "format_spec_main.inc"
spec_output_doc_filename = "format_spec_doc.inc"
spec_output_src_filename = "format_spec_sources.inc"
spec_output_doc_type_hierarchy_filename = "format_spec_type_hierarchy.inc"
spec_group_spec_cls = NWBGroupSpec
spec_dataset_spec_cls = NWBDatasetSpec
spec_namespace_spec_cls = NWBNamespace
spec_default_type_map = get_type_map()
spec_show_yaml_src = True
spec_generate_src_file = True
spec_show_hierarchy_plots = False
spec_file_per_type = False
spec_show_subgroups_in_seperate_table = True
spec_appreviate_main_object_doc_in_tables = True
spec_show_title_for_tables = True
spec_table_depth_char = "."
spec_add_latex_clearpage_after_ndt_sections = True
spec_resolve_type_inc = False
spec_clean_output_dir_if_old_git_hash = False
spec_skip_doc_autogen_if_current_git_hash = False
