"""A checkpoint's weights in Hugging Face's form, and back. Loads torch when a name is first used."""

from k2model import lazy_exports

__getattr__ = lazy_exports(
    __name__,
    {
        "ExportError": "hugging_face",
        "export_step": "step",
        "load_exported": "step",
    },
)
