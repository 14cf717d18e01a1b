"""The rules of a training file, by the names that the contract gives them."""

from enum import StrEnum


class Rule(StrEnum):
    """What a line may break; `LineError.Rule` of the contract says each in words."""

    FILE_EMPTY = "FILE_EMPTY"
    BYTE_ORDER_MARK = "BYTE_ORDER_MARK"
    NOT_UTF8 = "NOT_UTF8"
    LINE_TOO_LONG = "LINE_TOO_LONG"
    LINE_BLANK = "LINE_BLANK"
    NOT_JSON = "NOT_JSON"
    CONTROL_CHARACTER = "CONTROL_CHARACTER"
    DUPLICATE_KEY = "DUPLICATE_KEY"
    NUMBER_NOT_FINITE = "NUMBER_NOT_FINITE"
    LONE_SURROGATE = "LONE_SURROGATE"
    NESTED_TOO_DEEP = "NESTED_TOO_DEEP"
    TOO_MANY_VALUES = "TOO_MANY_VALUES"
    NOT_AN_OBJECT = "NOT_AN_OBJECT"
    UNKNOWN_KEY = "UNKNOWN_KEY"
    MESSAGES_MISSING = "MESSAGES_MISSING"
    ROLE_UNKNOWN = "ROLE_UNKNOWN"
    ROLE_MISPLACED = "ROLE_MISPLACED"
    CONTENT_MISSING = "CONTENT_MISSING"
    NOTHING_TO_TRAIN = "NOTHING_TO_TRAIN"
    TOOL_CALL_INVALID = "TOOL_CALL_INVALID"
    TOOL_CALL_UNPAIRED = "TOOL_CALL_UNPAIRED"
    TOOLS_INVALID = "TOOLS_INVALID"
    WEIGHT_INVALID = "WEIGHT_INVALID"


class FaultError(Exception):
    """A line that breaks a rule, and the place: characters from the start of the line, from 0."""

    def __init__(self, rule: Rule, place: int) -> None:
        super().__init__(rule)
        self.rule = rule
        self.place = place
