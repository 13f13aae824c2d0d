"""POST /api/chat of Ollama."""

from agents.gateway.formats import ollama_shared as shared
from agents.gateway.formats.base import Format, Wanted
from agents.gateway.formats.reading import Fields, image
from agents.ollama.protocol import tool_call_body
from agents.ollama.types import ChatChunk, JsonObject

# "developer" is what OpenAI's clients call "system".
ROLES = ("system", "user", "assistant", "tool", "developer")


def parse(body: JsonObject) -> Wanted:
    """Read a request. Without messages it only loads the model, which Ollama answers with one object in any case."""
    fields = Fields(body)
    streams = fields.flag("stream") is not False
    messages = [_message(message) for message in fields.objects("messages")]
    model = shared.required_model(fields)
    call: JsonObject = {"operation": "chat", "messages": messages}
    if tools := parse_tools(fields):
        call["tools"] = tools
    more, ignored = shared.generation_fields(fields)
    return Wanted(model=model, call=call | more, streams=streams and bool(messages), ignored=ignored)


def _message(fields: Fields) -> JsonObject:
    role = fields.text("role").lower()
    if role not in ROLES:
        raise fields.refusal("role", f"must be one of {', '.join(ROLES)}")
    message: JsonObject = {"role": "system" if role == "developer" else role, "content": fields.text("content")}
    for name in ("thinking", "tool_name", "tool_call_id"):
        if text := fields.text(name):
            message[name] = text
    if images := fields.items("images"):
        message["images"] = [image(data, fields.path_of(f"images[{number}]")) for number, data in enumerate(images)]
    if calls := fields.objects("tool_calls"):
        message["tool_calls"] = [_tool_call(call, number) for number, call in enumerate(calls)]
    return message


def _tool_call(fields: Fields, number: int) -> JsonObject:
    function = fields.required("function")
    arguments = function.inner("arguments")
    index = function.integer("index", least=0)
    call: JsonObject = {
        "function": {
            "index": number if index is None else index,
            "name": function.text("name"),
            "arguments": {} if arguments is None else arguments.value,
        }
    }
    return call | {"id": call_id} if (call_id := fields.text("id")) else call


def parse_tools(fields: Fields) -> list[JsonObject]:
    """Check the tools that a request offers, and return them as they are. OpenAI's chat writes them alike."""
    tools = fields.objects("tools")
    for tool in tools:
        if (kind := tool.text("type")) not in {"", "function"}:
            raise tool.refusal("type", f"only functions can be called, not {kind[:40]}")
        function = tool.required("function")
        function.text("description")
        function.inner("parameters")
        if not function.text("name"):
            raise function.refusal("name", "is missing")
    return [tool.value for tool in tools]


class ChatEncoder(shared.LineEncoder):
    """Writes the answer; tool calls carry their arguments as objects."""

    text_body = '"message":{"role":"assistant","content":TEXT}'

    @staticmethod
    def body(chunk: ChatChunk) -> JsonObject:
        message: JsonObject = {"role": "assistant", "content": chunk.text}
        if chunk.thinking:
            message["thinking"] = chunk.thinking
        if chunk.tool_calls:
            message["tool_calls"] = [tool_call_body(call) for call in chunk.tool_calls]
        return {"message": message}


FORMAT = Format(shared.DIALECT, parse, ChatEncoder, shared.model_missing)
