"""What both wire formats of `api_server` share: faults, what is asked, what is charged, batch jobs."""

import dataclasses
import hashlib
import json
import random
import re
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

# What a fault may be. Before an answer: nothing is generated, nothing is billed. `fault` may also return None.
STATUS_FAULTS = {
    'rate_limit': (429, 'Rate limit reached for requests per minute.', 'rate_limit_exceeded'),  # Retry-After: seconds
    'rate_limit_date': (429, 'Rate limit reached for requests per minute.', 'rate_limit_exceeded'),  # ... a date
    'rate_limit_plain': (429, 'Rate limit reached.', 'rate_limit_exceeded'),  # no Retry-After; Gemini: RetryInfo alone
    'quota': (429, 'You exceeded your current quota, please check your plan.', 'insufficient_quota'),
    'unauthorized': (401, 'Incorrect API key provided.', 'invalid_api_key'),
    'forbidden': (403, 'Your project has no access to this model.', 'model_not_allowed'),
    'missing': (404, 'The model does not exist.', 'model_not_found'),
    'bad_request': (400, 'This value is not allowed here.', 'invalid_value'),
    'server_error': (500, 'The server had an error.', None),
    'bad_gateway': (502, '', None),  # a page of HTML, as proxies write it
    'unavailable': (503, 'The model is overloaded. Please try again later.', None),
    'gateway_timeout': (504, 'The deadline expired before the operation could complete.', None),
    'overloaded': (529, 'Overloaded.', None),
}
# In an answer of status 200: generated and billed. They may stand on a line of a batch job as well.
CONTENT_FAULTS = (
    'no_choices',  # choices or candidates are empty
    'blocked',  # every choice: finish_reason content_filter, SAFETY
    'part_blocked',  # so the first choice
    'blocked_prompt',  # Gemini: promptFeedback and no candidates; OpenAI: 400 with code content_filter
    'refusal',  # OpenAI: message.refusal and no content; Gemini: RECITATION
    'empty',  # an empty text that stopped
    'truncated',  # half of the text: length, MAX_TOKENS
    'no_usage',
    'fewer',  # one choice less than asked for
    'reversed',  # the last choice comes first
)
# Of the connection or of the body as a whole: generated and billed, but for 'refuse' and 'reset'.
TRANSPORT_FAULTS = (
    'hang',  # answers after hang_seconds
    'slow',  # answers after slow_seconds
    'cut',  # closed in the middle of the body
    'refuse',  # closed before any byte
    'reset',  # so, with a TCP reset
    'malformed',  # no JSON, though the content type says so
    'html',  # a page of HTML with status 200
    'half_json',  # a whole body that holds half of the JSON
    'not_utf8',  # a byte in the text that is none of UTF-8
)
FAULTS = (*STATUS_FAULTS, *CONTENT_FAULTS, *TRANSPORT_FAULTS)
# A line of a batch job may have any of STATUS_FAULTS and CONTENT_FAULTS, and these.
LINE_FAULTS = ('missing_line', 'malformed', 'half_json', 'duplicate', 'stranger')

_WORDS = ('we', 'add', 'two', 'apples', 'to', 'each', 'basket', 'then', 'take', 'half', 'of', 'them', 'away', 'again')


def answer(prompt: str, seed: int | None, index: int) -> str:
    """The text of choice `index`: three to ten words, and a number that is the answer."""
    digest = hashlib.sha256(json.dumps([prompt, seed, index]).encode()).digest()
    words = ' '.join(_WORDS[byte % len(_WORDS)] for byte in digest[1 : 4 + digest[0] % 8])
    return f'{words.capitalize()}.\nThe answer is {digest[-1] % 100}.'


def tokens(text: str) -> int:
    """How many tokens a text has here: its words."""
    return len(text.split())


def prompt_of(body: dict) -> str:
    """The prompt in the body of a request of any format: all its texts, system's first, a line each."""
    if 'prompt' in body:
        return body['prompt'] if isinstance(body['prompt'], str) else '\n'.join(body['prompt'])
    if 'messages' in body:
        return '\n'.join(content_text(message['content']) for message in body['messages'])
    body = camel(body)
    contents = [body.get('systemInstruction'), *body['contents']]
    return '\n'.join(part['text'] for content in contents if content for part in content['parts'])


def random_faults(
    rate: float, seed: int, kinds: Sequence[str], routes: Collection[str] | None = ('generate',)
) -> Callable[[int, 'Request'], str | None]:
    """A share `rate` of the requests has one of `kinds`, each as often.

    What a request gets depends on what it says and how often it was said before, not on which thread came first:
    a run is repeated exactly, and whoever asks again gets through in the end. `routes` None is all of them.
    """

    def fault(number, request):
        if routes is not None and request.route not in routes:
            return None
        rng = random.Random(f'{seed} {request.attempt} {request.digest}')
        return rng.choice(kinds) if rng.random() < rate else None

    return fault


@dataclasses.dataclass
class Request:
    """One request that came in. `route` is one of generate, models, files, batches, None (no such path)."""

    number: int  # from 0, over all requests
    time: float  # time.monotonic()
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]  # names in lower case
    body: Any  # JSON, the fields of a form, or bytes
    dialect: str  # openai or gemini
    route: str | None
    digest: str  # of all that the request says but for its headers
    attempt: int  # how many requests with this digest came before
    fault: str | None = None


@dataclasses.dataclass
class Billed:
    """One prompt that was generated for, which a provider charges."""

    prompt: str
    seed: int | None
    model: str
    choices: int
    input: int
    cached: int  # of the input
    output: int  # with the thoughts
    thoughts: int  # of the output
    batch: bool
    delivered: bool  # whether the answer was sent whole

    @property
    def key(self) -> tuple[str, int | None]:
        return self.prompt, self.seed


@dataclasses.dataclass(frozen=True)
class Plan:
    """What becomes of a batch job.

    At the `polls`-th time that somebody asks it is completed, expired, failed or cancelled (by somebody else), or
    stays in_progress for ever. Where it expired or was cancelled, a share `done` of its requests was answered.
    """

    polls: int = 1
    end: str = 'completed'
    done: float = 1.0
    shuffle: bool = True  # the order of the results
    line: Callable[[int], str | None] = lambda index: None  # the fault of request `index`, e.g. {3: 'malformed'}.get


class Refused(Exception):
    """An answer with an error status."""

    def __init__(self, status: int, message: str, code: str | None = None, kind: str | None = None):
        super().__init__(message)
        self.status, self.message, self.code, self.kind = status, message, code, kind

    @classmethod
    def of_fault(cls, kind: str) -> 'Refused':
        return cls(*STATUS_FAULTS[kind], kind)


@dataclasses.dataclass
class Asked:
    """What a request to generate asks for, of either format."""

    model: str
    prompts: list[str]
    seed: int | None
    n: int
    stops: list[str]
    limit: float
    thoughts: int
    chat: bool = True
    show_thoughts: bool = False


@dataclasses.dataclass
class Choice:
    text: str
    end: str  # stop, length, blocked or refusal
    thoughts: int


@dataclasses.dataclass
class Job:
    """A batch job. It is billed when it ends, and that is when somebody asks how it is."""

    name: str
    number: int
    gemini: bool
    plan: Plan
    created: int
    model: str
    endpoint: str = ''
    source: str = ''  # the input file
    title: str | None = None
    metadata: dict | None = None
    inlined: bool = False
    items: list[tuple[Any, dict]] = dataclasses.field(default_factory=list)  # key or metadata, body of the request
    problem: dict | None = None  # why it is not valid
    polls: int = 0
    state: str = 'validating'  # as OpenAI calls it, for both
    counts: tuple[int, int] = (0, 0)  # completed, failed
    output: str | None = None
    errors: str | None = None
    results: list[dict] | None = None  # inlined ones


def names(text):
    return frozenset(text.split())


def content_text(content: str | list[dict]) -> str:
    """The text of an OpenAI message."""
    return content if isinstance(content, str) else ''.join(part['text'] for part in content)


def content_fault(request):
    return request.fault if request.fault in CONTENT_FAULTS else None


def first_words(text, count):
    """The first words of a text, and what is between them."""
    ends = [word.end() for word in re.finditer(r'\S+', text)]
    return text[: ends[min(count, len(ends)) - 1]] if ends and count > 0 else ''


def ended(text, stops, limit) -> tuple[str, str]:
    """The text up to the first stop string or as long as it may be, and why it ended."""
    text = text[: min((place for place in map(text.find, stops) if place >= 0), default=None)]
    return (text, 'stop') if tokens(text) <= limit else (first_words(text, limit), 'length')


def filled_lines(content):
    return [line for line in content.split(b'\n') if line.strip()]


def camel(value, depth=3):
    """Names of fields as the API writes them; it reads snake_case as well."""
    if isinstance(value, list):
        return [camel(each, depth) for each in value]
    if not isinstance(value, dict) or depth == 0:
        return value
    return {re.sub('_([a-z])', lambda m: m[1].upper(), name): camel(each, depth - 1) for name, each in value.items()}


def moment(seconds):
    return time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(seconds))
