"""A checkpoint's weights in Hugging Face's form, and back. Loads torch when a name is first used."""

from k2model import lazy_exports

__getattr__ = lazy_exports(
    __name__,
    {
        "AdoptionError": "architecture",
        "ExportError": "hugging_face",
        "Released": "source",
        "adopted_checkpoint_step": "adoption",
        "adopted_export_step": "adoption",
        "adopted_model_of": "architecture",
        "export_step": "step",
        "load_exported": "step",
        "model_config_of": "architecture",
        "read_record": "adoption",
        "specification_of": "adoption",
    },
)
