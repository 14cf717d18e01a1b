"""Lines of training files that break a rule, each with the place marked by ¦."""

from perron.finetuning.line_rules import Rule

USER = '{"role":"user","content":"q"}'
ANSWER = '{"role":"assistant","content":"a"}'
GOOD = f'{{"messages":[{USER},{ANSWER}]}}'.encode()
TOOLS = '"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}]'
CALL = '{"id":"c1","type":"function","function":{"name":"f","arguments":"{}"}}'
CALLS = f'{{"role":"assistant","tool_calls":[{CALL}]}}'
RESULT = '{"role":"tool","tool_call_id":"c1","content":"r"}'


def chat(*messages: str, tools: bool = False) -> str:
    return f'{{{TOOLS + "," if tools else ""}"messages":[{",".join(messages)}]}}'


def called(*messages: str) -> str:
    """A chat that may call a tool; the user asks first."""
    return chat(USER, *messages, tools=True)


def with_tools(*functions: str) -> str:
    """A chat that declares tools, after its messages."""
    declared = ",".join(f'{{"function":{function}}}' for function in functions)
    return f'{chat(USER, ANSWER)[:-1]},"tools":[{declared}]}}'


def marked(line: str) -> tuple[bytes, int]:
    """A line without its mark ¦, and the byte before which the mark stood, from 1."""
    before, _, after = line.partition("¦")
    return (before + after).encode(), len(before.encode()) + 1


FAULTY = [
    (Rule.BYTE_ORDER_MARK, "¦\ufeff" + GOOD.decode()),
    (Rule.LINE_BLANK, "¦"),
    (Rule.LINE_BLANK, "¦ \t\r"),
    (Rule.NOT_JSON, chat(USER, ANSWER) + " ¦{}"),
    (Rule.NOT_JSON, '{"messages":¦'),
    (Rule.NOT_JSON, "{¦messages:[]}"),
    (Rule.NOT_JSON, '{"messages":[]¦'),
    (Rule.NOT_JSON, '{"messages":[],¦}'),
    (Rule.NOT_JSON, '{"messages":[¦.5]}'),
    (Rule.NOT_JSON, "¦\x00\x01"),
    (Rule.NOT_JSON, f'{{"messages":[{USER} ¦{ANSWER}]}}'),
    (Rule.CONTROL_CHARACTER, chat('{"role":"user","content":"ä¦\x01"}', ANSWER)),
    (Rule.CONTROL_CHARACTER, chat('{"role":"user","content":"tab¦\there"}', ANSWER)),
    (Rule.NOT_AN_OBJECT, "¦[]"),
    (Rule.NOT_AN_OBJECT, '¦"text"'),
    (Rule.NOT_AN_OBJECT, " ¦null"),
    (Rule.DUPLICATE_KEY, f'{{"messages":[{USER}],¦"messages":[{USER},{ANSWER}]}}'),
    (Rule.DUPLICATE_KEY, chat('{"role":"user","content":"q",¦"role" :"user"}', ANSWER)),
    (Rule.DUPLICATE_KEY, chat('{"role":"user","content":"q",¦"r\\u006fle":"user"}', ANSWER)),
    (Rule.DUPLICATE_KEY, with_tools('{"name":"f","parameters":{"a":1,¦"a":2}}')),
    (Rule.NUMBER_NOT_FINITE, chat(USER, '{"role":"assistant","content":"a","weight":¦NaN}')),
    (Rule.NUMBER_NOT_FINITE, chat(USER, '{"role":"assistant","content":"a","weight":¦-Infinity}')),
    (Rule.NUMBER_NOT_FINITE, chat(USER, '{"role":"assistant","content":"a","weight":¦1e999}')),
    (Rule.LONE_SURROGATE, chat('{"role":"user","content":"é¦\\ud800"}', ANSWER)),
    (Rule.LONE_SURROGATE, chat('{"role":"user","content":"¦\\udc00\\ud800"}', ANSWER)),
    (Rule.NESTED_TOO_DEEP, "[" * 64 + "¦" + "[" * 100_000),
    (Rule.TOO_MANY_VALUES, "[" + "0," * 99_999 + "¦0" + ",0" * 10 + "]"),
    (Rule.UNKNOWN_KEY, f'{{"messages":[{USER},{ANSWER}],¦"prompt":"p"}}'),
    (Rule.UNKNOWN_KEY, chat('{"role":"user",¦"Content":"q"}', ANSWER)),
    (Rule.MESSAGES_MISSING, "¦{}"),
    (Rule.MESSAGES_MISSING, '{"messages":¦[]}'),
    (Rule.MESSAGES_MISSING, '{"messages":¦"text"}'),
    (Rule.MESSAGES_MISSING, '{"messages":[¦1]}'),
    (Rule.MESSAGES_MISSING, '{"messages":¦[' + ",".join([USER, ANSWER] * 2049) + "]}"),
    (Rule.ROLE_UNKNOWN, chat('{"role":¦"human","content":"q"}', ANSWER)),
    (Rule.ROLE_UNKNOWN, chat('¦{"content":"q"}', ANSWER)),
    (Rule.ROLE_UNKNOWN, chat('{"role":¦null,"content":"q"}', ANSWER)),
    (Rule.ROLE_MISPLACED, chat(USER, ANSWER, '{"role":¦"system","content":"s"}')),
    (Rule.ROLE_MISPLACED, chat('{"role":¦"assistant","content":"a"}')),
    (Rule.ROLE_MISPLACED, chat('{"role":¦"user","content":"q"}')),
    (Rule.ROLE_MISPLACED, chat(USER, '{"role":¦"user","content":"q"}', ANSWER)),
    (Rule.CONTENT_MISSING, chat('{"role":"user","content":¦""}', ANSWER)),
    (Rule.CONTENT_MISSING, chat('{"role":"user","content":¦null}', ANSWER)),
    (Rule.CONTENT_MISSING, chat('{"role":"user","content":¦["q"]}', ANSWER)),
    (Rule.CONTENT_MISSING, chat('¦{"role":"user"}', ANSWER)),
    (Rule.NOTHING_TO_TRAIN, f'{{"messages":¦[{USER},{{"role":"assistant","content":"a","weight":0}}]}}'),
    (Rule.WEIGHT_INVALID, chat('{"role":"user","content":"q","weight":¦1}', ANSWER)),
    (Rule.WEIGHT_INVALID, chat(USER, '{"role":"assistant","content":"a","weight":¦1.01}')),
    (Rule.WEIGHT_INVALID, chat(USER, '{"role":"assistant","content":"a","weight":¦-1}')),
    (Rule.WEIGHT_INVALID, chat(USER, '{"role":"assistant","content":"a","weight":¦true}')),
    (Rule.TOOL_CALL_INVALID, called(CALLS.replace('"f"', '¦"g"'), RESULT, ANSWER)),
    (Rule.TOOL_CALL_INVALID, called(CALLS.replace('"{}"', '¦"[]"'), RESULT, ANSWER)),
    (Rule.TOOL_CALL_INVALID, called(CALLS.replace('"{}"', "¦{}"), RESULT, ANSWER)),
    (Rule.TOOL_CALL_INVALID, called(CALLS.replace('"c1"', '¦""'), RESULT, ANSWER)),
    (Rule.TOOL_CALL_INVALID, called('{"role":"assistant","content":"a","tool_calls":¦[]}')),
    (Rule.TOOL_CALL_INVALID, called(CALLS, RESULT, CALLS.replace('"c1"', '¦"c1"'), RESULT, ANSWER)),
    (Rule.TOOL_CALL_INVALID, chat(USER[:-1] + ',"tool_calls":¦[' + CALL + "]}", ANSWER)),
    (Rule.TOOL_CALL_UNPAIRED, called(CALLS, '{"role":¦"user","content":"q"}', ANSWER)),
    (Rule.TOOL_CALL_UNPAIRED, called(CALLS.replace("[{", "¦[{"))),
    (Rule.TOOL_CALL_UNPAIRED, chat(USER, ANSWER, RESULT.replace('"c1"', '¦"c1"'), ANSWER)),
    (Rule.TOOL_CALL_UNPAIRED, chat(USER, '{"role":¦"tool","tool_call_id":"c1","content":"r"}', ANSWER)),
    (Rule.TOOL_CALL_UNPAIRED, called(CALLS, RESULT, RESULT.replace('"c1"', '¦"c1"'), ANSWER)),
    (Rule.TOOL_CALL_UNPAIRED, called(CALLS, '¦{"role":"tool","content":"r"}', ANSWER)),
    (Rule.TOOL_CALL_UNPAIRED, chat('{"role":"user","content":"q","name":¦"n"}', ANSWER)),
    (Rule.TOOLS_INVALID, chat(USER, ANSWER)[:-1] + ',"tools":¦{}}'),
    (Rule.TOOLS_INVALID, with_tools('{"name":¦""}')),
    (Rule.TOOLS_INVALID, with_tools("¦{}")),
    (Rule.TOOLS_INVALID, with_tools('{"name":"f"}', '{"name":¦"f"}')),
]
