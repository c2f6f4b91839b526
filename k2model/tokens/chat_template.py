"""K2's chat template for transformers: ChatML with `reasoning_effort`, tools and tool results.

It must say, character for character, what `k2model.corpus.markup.chat_prompt` says in segments (a test
holds the two together): the template is for users of the released model, the segments for training and
evaluation. Unlike segments, a template's output is matched for special tokens by transformers, so a tag
that a user types does act as markup there.

Read from `chat_template.jinja`: `reasoning_effort` is low, medium or high (anything else means high, as
in K2-V2-Instruct; a release knows only the efforts it was trained on, see `chat_template`);
`tools` is a list of JSON schemas; an assistant's turn may carry `trace` (or
`reasoning_content`), and `tool_call` (JSON text) or `tool_calls` (transformers' own form).
"""

import json
from collections.abc import Collection

from k2model.corpus.markup import EFFORTS

#: What of the template depends on the efforts that were trained.
_TAGS = '{"low": "think_faster", "medium": "think_fast", "high": "think"}'
_DEFAULT = 'default("high", true), tags["high"]'

CHAT_TEMPLATE = """\
{%- set tags = {"low": "think_faster", "medium": "think_fast", "high": "think"} -%}
{%- set tag = tags.get(reasoning_effort | default("high", true), tags["high"]) -%}
{{- "<|begin_of_text|>" -}}
{%- set frame = namespace(separator="", system="") -%}
{%- if tools -%}
    {%- if messages and messages[0].role == "system" -%}
        {%- set frame.system = messages[0].content ~ "\\n" if messages[0].content else "" -%}
        {%- set messages = messages[1:] -%}
    {%- endif -%}
    {{- "<|im_start|>system\\n" ~ frame.system ~ "<tools>" ~ (tools | tojson) ~ "</tools><|im_end|>" -}}
    {%- set frame.separator = "\\n" -%}
{%- endif -%}
{%- for message in messages -%}
    {{- frame.separator ~ "<|im_start|>" ~ message.role ~ "\\n" -}}
    {%- set frame.separator = "\\n" -%}
    {%- if message.role == "assistant" -%}
        {{- "<" ~ tag ~ ">" ~ (message.trace or message.reasoning_content or "") ~ "</" ~ tag ~ ">" -}}
        {{- message.content or "" -}}
        {%- if message.tool_call -%}
            {{- "<tool_calls>" ~ message.tool_call ~ "</tool_calls>" -}}
        {%- endif -%}
        {%- for call in message.tool_calls or [] -%}
            {%- set function = call.function or call -%}
            {%- set arguments = function.arguments if function.arguments is string else function.arguments | tojson -%}
            {{- "<tool_calls>" ~ '{"name": ' ~ (function.name | tojson) ~ ', "arguments": ' ~ arguments ~ "}" -}}
            {{- "</tool_calls>" -}}
        {%- endfor -%}
    {%- else -%}
        {{- message.content -}}
    {%- endif -%}
    {{- "<|im_end|>" -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- frame.separator ~ "<|im_start|>assistant\\n<" ~ tag ~ ">" -}}
{%- endif -%}
"""


def default_effort(trained: Collection[str]) -> str:
    """The most effort among those that were trained; "" when none was."""
    return next((effort for effort in reversed(EFFORTS) if effort in trained), "")


def chat_template(trained: Collection[str]) -> str:
    """The template of a model that was trained on the efforts `trained`, at least one.

    An effort that is not given, or was not trained, means the most that was: behind a tag that it never learned a model
    ends its turn without an answer.
    """
    most = default_effort(trained)
    tags = {effort: opening.strip("<>") for effort, (opening, _) in EFFORTS.items() if effort in trained}
    known = CHAT_TEMPLATE.replace(_TAGS, json.dumps(tags))
    return known.replace(_DEFAULT, f'default("{most}", true), tags["{most}"]')
