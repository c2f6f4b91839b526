"""The library of reasoning-behaviour templates, read from `templates.toml`, which says what each is good for.

A section is written `Title` or `Title = role`: the role tells the procedural teacher what to fill it with
(`roles`). A template with a role for every section can be filled without a model.
"""

import tomllib
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.resources import files

from k2model.corpus.synthesis.config import SynthesisConfig, TeacherKind, unknown


@dataclass(frozen=True)
class Template:
    name: str
    category: str
    when: str
    instruction: str
    sections: tuple[tuple[str, str], ...]  # (title, role or "")
    domains: tuple[str, ...] = ()  # () = any

    @cached_property
    def titles(self) -> tuple[str, ...]:
        return tuple(title for title, _ in self.sections)

    @property
    def procedural(self) -> bool:
        return all(role for _, role in self.sections)

    @property
    def prompt(self) -> str:
        """The system prompt: what to do, and the headings that verification looks for."""
        headings = "\n".join(f"{title}: ..." for title in self.titles)
        return (
            f"{self.instruction}\n\nWrite these sections in this order, each once, each opened by a line that begins "
            f"with its heading and a colon, and leave none empty. The last holds the answer alone.\n{headings}"
        )

    def suits(self, domain: str) -> bool:
        return not self.domains or domain in self.domains

    def write(self, bodies: tuple[str, ...]) -> str:
        """A reply with the sections' texts under their headings."""
        return "\n".join(f"{title}: {body}" for title, body in zip(self.titles, bodies, strict=True))


@lru_cache(maxsize=1)
def library() -> dict[str, Template]:
    """All templates by name, in the file's order."""
    table = tomllib.loads(files("k2model.corpus.synthesis").joinpath("templates.toml").read_text())
    return {row["name"]: _template(row) for row in table["template"]}


@lru_cache(maxsize=16)
def chosen(config: SynthesisConfig) -> tuple[Template, ...]:
    """Those a job names, or all its teacher can fill. Raises `SynthesisError` for an unknown or unfillable one."""
    known = library()
    for name in config.templates:
        if name not in known:
            raise unknown("template", name, list(known))
        if config.teacher == TeacherKind.PROCEDURAL and not known[name].procedural:
            fillable = [name for name, template in known.items() if template.procedural]
            raise unknown("template that the procedural teacher can fill", name, fillable)
    if config.templates:
        return tuple(known[name] for name in config.templates)
    procedural = config.teacher == TeacherKind.PROCEDURAL
    return tuple(template for template in known.values() if template.procedural or not procedural)


def _template(row: dict[str, object]) -> Template:
    sections = tuple(tuple(part.strip() for part in f"{text} =".split("=")[:2]) for text in row["sections"])  # type: ignore[attr-defined]
    given = {name: row[name] for name in ("name", "category", "when", "instruction")}
    return Template(**given, sections=sections, domains=tuple(row.get("domains", ())))  # type: ignore[arg-type]
