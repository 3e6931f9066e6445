"""Fills the page of settings from the settings themselves, so that it is never out of date."""

import html
from typing import Any

from unison.algorithms import PPOConfig
from unison.config import ModelConfig
from unison.config.describe import describe_setting
from unison.config.setter import catalog

MARK = "<!-- settings -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """What mkdocs calls for each page."""
    if MARK not in markdown:
        return markdown
    sections = {f"{name}()": section for name, section in catalog(PPOConfig).sections.items()}
    tables = [_table(name, section) for name, section in {**sections, "model_config": ModelConfig}.items()]
    return markdown.replace(MARK, "\n\n".join(tables))


def _table(name: str, section: Any) -> str:
    rows = [f"## `{name}`", "", (section.__doc__ or "").strip().splitlines()[0], ""]
    rows += ["| setting | takes | default | meaning |", "| --- | --- | --- | --- |"]
    for setting, field in section.field_names().items():
        info = section.model_fields[field]
        default = info.get_default(call_default_factory=True)
        cells = [f"`{setting}`", describe_setting(info), f"`{default!r}`", info.description or ""]
        rows.append("| " + " | ".join(_escaped(cell) for cell in cells) + " |")
    return "\n".join(rows)


def _escaped(cell: str) -> str:
    return html.escape(cell, quote=False).replace("|", "\\|") if "`" not in cell else cell.replace("|", "\\|")
