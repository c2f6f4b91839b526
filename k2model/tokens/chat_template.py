"""The chat template of a release: K2's frame in Jinja, for users of the model, as `markup` is for training.

It is ChatML with `reasoning_effort` (low, medium or high; of another, or none, see `chat_template`) and `tools` (a list
of JSON schemas, else those of the first message). It takes messages in every form that `k2model.documents.chats` reads
but JSON text of objects, since Jinja has no reader of it, and writes, character for character, what
`k2model.documents.markup.chat` says in segments: tests hold the two together. Unlike segments, what it writes is
matched for special tokens, so a tag that a user types acts as markup there; of a row that holds one nothing is learned.

`{% generation %}` marks what an assistant's turn is trained on, so that `return_assistant_tokens_mask` of transformers
and `assistant_only_loss` of TRL give the loss mask of a dialogue of which all turns count. The text begins with BOS;
tokenised apart from the template it takes `add_special_tokens=False`, as transformers does, or has two.
"""

import json
from collections.abc import Collection

from k2model.documents.markup import EFFORTS
from k2model.documents.messages import ROLES, THINKING_PARTS, TRACES

#: What of the template depends on the efforts that were trained.
_TAGS = '{"low": "think_faster", "medium": "think_fast", "high": "think"}'
_DEFAULT = 'effort.said, tags["high"]'

CHAT_TEMPLATE = (
    """\
{%- set tags = {"low": "think_faster", "medium": "think_fast", "high": "think"} -%}
{%- set roles = @ROLES -%}
{%- macro written(value) -%}
    {%- if value is mapping -%}
        {{- "{" -}}
        {%- for name, member in value.items() if member is not none -%}
            {{- ("" if loop.first else ", ") ~ (name | tojson) ~ ": " ~ written(member) -}}
        {%- endfor -%}
        {{- "}" -}}
    {%- elif value is iterable and value is not string -%}
        {{- "[" -}}
        {%- for member in value -%}
            {{- ("" if loop.first else ", ") ~ written(member) -}}
        {%- endfor -%}
        {{- "]" -}}
    {%- else -%}
        {{- value | tojson -}}
    {%- endif -%}
{%- endmacro -%}
{%- macro called(call) -%}
    {{- "<tool_calls>" -}}
    {%- if call is string -%}
        {{- call -}}
    {%- else -%}
        {%- set function = call.function or call -%}
        {%- set said = function.arguments -%}
        {{- '{"name": ' ~ (function.name | tojson) ~ ', "arguments": ' -}}
        {%- if said is string -%}
            {{- "{}" if said.strip() in ["", "null"] else said -}}
        {%- else -%}
            {{- written(said or {}) -}}
        {%- endif -%}
        {{- "}" -}}
    {%- endif -%}
    {{- "</tool_calls>" -}}
{%- endmacro -%}
{%- set effort = namespace(said=reasoning_effort | default("", true)) -%}
{%- for message in messages -%}
    {%- for name, tag in tags.items() -%}
        {%- if message[tag] and not effort.said -%}
            {%- set effort.said = name -%}
        {%- endif -%}
    {%- endfor -%}
{%- endfor -%}
{%- set tag = tags.get(effort.said, tags["high"]) -%}
{%- set offered = tools or (messages and messages[0].tools) -%}
{%- set frame = namespace(separator="", tools="") -%}
{{- "<|begin_of_text|>" -}}
{%- if offered -%}
    {%- set frame.tools = "<tools>" ~ (offered if offered is string else written(offered)) ~ "</tools>" -%}
    {%- set first = messages and (messages[0].role or messages[0]["from"]) -%}
    {%- if roles.get(first, first) != "system" -%}
        {{- "<|im_start|>system\\n" ~ frame.tools ~ "<|im_end|>" -}}
        {%- set frame.separator = "\\n" -%}
        {%- set frame.tools = "" -%}
    {%- endif -%}
{%- endif -%}
{%- for message in messages -%}
    {%- set said = message.role or message["from"] -%}
    {%- set role = roles.get(said, said) -%}
    {%- set turn = namespace(text="", trace="") -%}
    {%- set content = message.content or message.value or "" -%}
    {%- for part in ([content] if content is string else content) -%}
        {%- if part is string -%}
            {%- set turn.text = turn.text ~ part -%}
        {%- elif part.type in @THINKING -%}
            {%- set turn.trace = turn.trace ~ (part[part.type] or part.text or "") -%}
        {%- else -%}
            {%- set turn.text = turn.text ~ (part.text or "") -%}
        {%- endif -%}
    {%- endfor -%}
    {{- frame.separator ~ "<|im_start|>" ~ role ~ "\\n" -}}
    {%- set frame.separator = "\\n" -%}
    {%- if role == "assistant" -%}
        {%- for name in @TRACES -%}
            {%- if message[name] and not turn.trace -%}
                {%- set turn.trace = message[name] -%}
            {%- endif -%}
        {%- endfor -%}
        {%- for name in ["think", "think_fast", "think_faster"] -%}
            {%- set opened, closed = "<" ~ name ~ ">", "</" ~ name ~ ">" -%}
            {%- if turn.text.lstrip().startswith(opened) and closed in turn.text -%}
                {%- set within, rest = turn.text.lstrip()[opened | length:].split(closed, 1) -%}
                {%- set turn.trace = turn.trace or within.strip("\\r\\n") -%}
                {%- set turn.text = rest.lstrip("\\r\\n") -%}
            {%- endif -%}
        {%- endfor -%}
        {%- set calls = message.tool_calls or message.tool_call or message.function_call or [] -%}
        {%- if said == "function_call" -%}
            {%- set calls = turn.text -%}
            {%- set turn.text = "" -%}
        {%- endif -%}
        {{- "<" ~ tag ~ ">" -}}
        {% generation %}
            {{- turn.trace ~ "</" ~ tag ~ ">" ~ turn.text -}}
            {%- for call in ([calls] if calls is string or calls is mapping else calls) -%}
                {%- if call is string or (call.function or call).name -%}
                    {{- called(call) -}}
                {%- endif -%}
            {%- endfor -%}
            {{- "<|im_end|>" -}}
        {% endgeneration %}
    {%- else -%}
        {{- turn.text -}}
        {%- if frame.tools -%}
            {{- ("\\n" if turn.text else "") ~ frame.tools -}}
            {%- set frame.tools = "" -%}
        {%- endif -%}
        {{- "<|im_end|>" -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- frame.separator ~ "<|im_start|>assistant\\n<" ~ tag ~ ">" -}}
{%- endif -%}
""".replace("@ROLES", json.dumps(ROLES))
    .replace("@TRACES", json.dumps(TRACES))
    .replace("@THINKING", json.dumps(THINKING_PARTS))
)


def default_effort(trained: Collection[str]) -> str:
    """The most effort among those that were trained; "" when none was."""
    return next((effort for effort in reversed(EFFORTS) if effort in trained), "")


def chat_template(trained: Collection[str]) -> str:
    """The template of a model that was trained on the efforts `trained`, at least one.

    An effort that is not given is what K2's names of thinking in the messages say. Where nothing says one, or it was
    not trained, it is the most that was: behind a tag that it never learned a model ends its turn without an answer.
    """
    tags = {effort: opening.strip("<>") for effort, (opening, _) in EFFORTS.items() if effort in trained}
    most = f'effort.said, tags["{default_effort(trained)}"]'
    return CHAT_TEMPLATE.replace(_TAGS, json.dumps(tags)).replace(_DEFAULT, most)
