"""What is asked and answered over HTTP: the OpenAI API's completions and chat completions, as JSON. No JAX here.

A field that is null is not there. One that is not supported is taken where its value asks for nothing, and refused by
name where it does; so is one that is not known: a client is never answered something else than it asked for.
"""

import json
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, ValidationError, model_validator

HARMLESS = (  # whatever they say: they change no text
    'user',
    'metadata',
    'store',
    'service_tier',
    'parallel_tool_calls',
    'safety_identifier',
    'prompt_cache_key',
)
NEUTRAL: dict[str, tuple] = {  # the values that ask for nothing
    'echo': (False,),
    'suffix': ('',),
    'logit_bias': ({},),
    'presence_penalty': (0,),
    'frequency_penalty': (0,),
    'repetition_penalty': (1,),
    'min_p': (0,),
    'min_tokens': (0,),
    'tools': ([],),
    'tool_choice': ('none', 'auto'),
    'functions': ([],),
    'function_call': ('none', 'auto'),
    'response_format': ({'type': 'text'},),
    'modalities': (['text'],),
    'ignore_eos': (False,),
    'skip_special_tokens': (True,),
}
MAX_CHOICES = 128
MAX_STOPS = 16
MAX_SEED = 2**63 - 1


class Refused(Exception):
    """A request that is answered with an error: ONE line that names the culprit and the fix."""

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ):
        super().__init__(message)
        self.status, self.message, self.param, self.code, self.headers = status, message, param, code, headers

    @property
    def body(self) -> dict:
        """As the OpenAI API says it."""
        kinds = {401: 'authentication_error', 404: 'not_found_error', 429: 'rate_limit_error'}
        kind = kinds.get(self.status, 'server_error' if self.status >= 500 else 'invalid_request_error')
        return {'error': {'message': self.message, 'type': kind, 'param': self.param, 'code': self.code}}


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra='forbid', allow_inf_nan=False)


class StreamOptions(_Strict):
    include_usage: bool = False


Token = Annotated[int, Field(ge=0)]
Stop = Annotated[str, Field(min_length=1)]


class Ask(_Strict):
    """What both kinds of requests may say. What is None is as the run samples."""

    model: str
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] = 1
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1, lt=2**31)] | None = None  # not OpenAI's; -1 and 0 are off, as with vLLM
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=MAX_STOPS)] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None

    @property
    def stops(self) -> list[str] | None:
        """None where the request says none, which leaves it to the template."""
        return [self.stop] if isinstance(self.stop, str) else self.stop

    @property
    def most_tokens(self) -> tuple[str, int] | None:
        """The field that limits an answer, and its value."""
        for field in ('max_completion_tokens', 'max_tokens'):
            if (value := getattr(self, field)) is not None:
                return field, value
        return None

    @property
    def include_usage(self) -> bool:
        return self.stream and self.stream_options is not None and self.stream_options.include_usage


class CompletionAsk(Ask):
    prompt: str | list[str] | list[Token] | list[list[Token]]
    logprobs: Annotated[int, Field(ge=0, le=1)] | None = None
    best_of: int | None = None

    @model_validator(mode='after')
    def _is_plain(self):
        if self.best_of not in (None, self.n):
            raise ValueError(f'best_of is {self.best_of} and n is {self.n}: all that is drawn is returned')
        return self

    @property
    def prompts(self) -> Sequence[str | list[int]]:
        """The prompts, each a text or token ids."""
        whole = isinstance(self.prompt, str) or (self.prompt and isinstance(self.prompt[0], int))
        return [self.prompt] if whole else self.prompt

    @property
    def wants_logprobs(self) -> bool:
        return self.logprobs is not None


class TextPart(_Strict):
    type: Literal['text']
    text: str


class Message(_Strict):
    role: Literal['system', 'developer', 'user', 'assistant']
    content: str | list[TextPart]
    name: str = ''
    type: Literal['text'] = 'text'  # as lm-evaluation-harness marks its messages

    @property
    def text(self) -> str:
        return self.content if isinstance(self.content, str) else ''.join(part.text for part in self.content)


class ChatAsk(Ask):
    messages: Annotated[list[Message], Field(min_length=1)]
    logprobs: StrictBool = False
    top_logprobs: Annotated[int, Field(ge=0, le=0)] | None = None

    @model_validator(mode='after')
    def _takes_turns(self):
        roles = [message.role for message in self.messages]
        turns = roles[1:] if roles[0] in ('system', 'developer') else roles
        if turns != ['user', 'assistant'] * (len(turns) // 2) + ['user']:
            raise ValueError('messages: user and assistant take turns, after a system message if any; the user is last')
        return self

    @property
    def wants_logprobs(self) -> bool:
        return self.logprobs

    def conversation(self) -> tuple[str, list[tuple[str, str]], str]:
        """(the system's text or '', (question, answer) of each earlier turn, the last question)."""
        texts = [message.text for message in self.messages]
        system = '' if self.messages[0].role == 'user' else texts.pop(0)
        return system, list(zip(texts[:-1:2], texts[1::2], strict=True)), texts[-1]


def read(kind: type[Ask], body: bytes):
    """The request in `body`, a `kind`. Refused (400), naming the field, where it is none, or asks for too much."""

    def no_number(name):
        raise ValueError(f'{name} is no JSON')

    try:
        fields = json.loads(body, parse_constant=no_number)
        json.dumps(fields, ensure_ascii=False).encode()  # half a surrogate pair is JSON, and no text
    except (ValueError, RecursionError) as error:
        raise Refused(400, f'the body is not JSON: {str(error) or type(error).__name__}') from None
    if not isinstance(fields, dict):
        raise Refused(400, f'the body must be a JSON object, not {type(fields).__name__}')
    asked = {}
    for name, value in fields.items():
        if value is None or name in HARMLESS:
            continue
        if name in NEUTRAL:
            if value not in NEUTRAL[name]:
                raise Refused(400, f'{name} is not supported here: leave it out', name, 'unsupported_parameter')
            continue
        asked[name] = value
    try:
        return kind.model_validate(asked)
    except ValidationError as error:
        raise _refusal(error, kind) from None


def _refusal(error: ValidationError, kind: type[Ask]) -> Refused:
    """Of the first mistake; where a field may be several things, what is said of the one that it is most like."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    of_field = [each for each in found if each['loc'][:1] == found[0]['loc'][:1]]
    first = max(of_field, key=lambda each: (len(each['loc']), not each['type'].endswith('_type')))
    if not first['loc']:
        message = first['msg'].removeprefix('Value error, ')
        return Refused(400, message, message.split()[0].rstrip(':'))
    name = str(first['loc'][0])
    # Between them stand the names of the types that were tried.
    parts = [
        part for part in first['loc'] if isinstance(part, int) or (part.isidentifier() and part not in ('str', 'int'))
    ]
    where = '.'.join(map(str, parts))
    if first['type'] == 'extra_forbidden':
        if len(first['loc']) == 1:
            return Refused(400, f'{name} is not a field of this request: leave it out', name, 'unknown_parameter')
        return Refused(400, f'{where} is not supported here: leave it out', name, 'unsupported_parameter')
    if len(of_field) > 1 and first['type'].endswith('_type'):
        return Refused(400, f'{where} is of another kind than this field takes', name, 'invalid_type')
    if first['type'] == 'missing':
        return Refused(400, f'{where} is missing', name, 'missing_required_parameter')
    return Refused(400, f'{where}: {first["msg"][0].lower()}{first["msg"][1:]}', name, 'invalid_value')
