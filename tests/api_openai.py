"""The wire format of OpenAI: chat, completions, files and batch jobs."""

import json
import math
import time

from api_parts import Asked, Refused, content_fault, filled_lines, names, prompt_of

_BOTH = names(
    'frequency_penalty logit_bias logprobs max_tokens model n presence_penalty seed stop stream stream_options '
    'temperature top_p user'
)
_CHAT = _BOTH | names(
    'audio max_completion_tokens messages metadata modalities parallel_tool_calls prediction prompt_cache_key '
    'reasoning_effort response_format safety_identifier service_tier store tool_choice tools top_logprobs verbosity '
    'web_search_options'
)
_COMPLETION = _BOTH | {'prompt', 'best_of', 'echo', 'suffix'}


class OpenAI:
    """The answers of :class:`api_server.ApiServer` in this format."""

    def _openai_error(self, refused):
        kind = 'server_error' if refused.status >= 500 else 'invalid_request_error'
        if refused.status == 429:
            kind = 'insufficient_quota' if refused.kind == 'quota' else 'requests'
        return {'error': {'message': refused.message, 'type': kind, 'param': None, 'code': refused.code}}

    def _openai_asked(self, body, chat):
        if not isinstance(body, dict):
            raise Refused(400, 'We could not parse the JSON body of your request.')
        unknown = sorted(set(body) - (_CHAT if chat else _COMPLETION))
        if self.strict and unknown:
            raise Refused(400, f'Unrecognized request argument supplied: {unknown[0]}')
        needed = 'messages' if chat else 'prompt'
        for name in ('model', needed):
            if not body.get(name):
                raise Refused(400, f"Missing required parameter: '{name}'.", 'missing_required_parameter')
        if 'max_tokens' in body and 'max_completion_tokens' in body:
            raise Refused(400, 'Setting max_tokens and max_completion_tokens at the same time is not supported.')
        if body.get('stream'):
            raise Refused(400, 'There is no streaming here.')
        stops = body.get('stop') or []
        stops = [stops] if isinstance(stops, str) else stops
        n = body.get('n') or 1
        if len(stops) > 4 or not 1 <= n <= 128:
            raise Refused(400, 'Invalid stop or n: at most 4 and 128.', 'invalid_value')
        prompts = [prompt_of(body)]
        if not chat and not isinstance(body['prompt'], str):
            prompts = body['prompt']
        limit = body.get('max_completion_tokens') or body.get('max_tokens') or math.inf
        thoughts = 0 if body.get('reasoning_effort') in ('none', 'minimal') or not chat else self.thoughts
        return Asked(body['model'], prompts, body.get('seed'), n, stops, limit, thoughts, chat)

    def _openai_answer(self, asked, chosen, billed, fault):
        ends = {'blocked': 'content_filter', 'refusal': 'stop'}
        choices = []
        # With several prompts the choices of the first come first; where some are left out, so are their numbers.
        for which, of_one in enumerate(chosen):
            for index, choice in enumerate(of_one, start=which * asked.n):
                entry = {'index': index, 'logprobs': None, 'finish_reason': ends.get(choice.end, choice.end)}
                if asked.chat:
                    said = None if choice.end in ends else choice.text
                    refusal = 'I cannot help with that.' if choice.end == 'refusal' else None
                    entry['message'] = {'role': 'assistant', 'content': said, 'refusal': refusal, 'annotations': []}
                else:
                    entry['text'] = choice.text
                choices.append(entry)
        if fault == 'reversed':
            choices.reverse()
        reply = {
            'id': self._new_id('chatcmpl-'),
            'object': 'chat.completion' if asked.chat else 'text_completion',
            'created': int(time.time()),
            'model': asked.model,
            'choices': choices,
        }
        if fault != 'no_usage':
            reply['usage'] = _openai_usage(billed)
        return reply

    def _openai_generate(self, request, chat):
        body, billed = self._run(False, request.body, content_fault(request), chat=bool(chat))
        return body, {}, billed

    def _openai_model(self, request, name):
        self._check_model(name)
        return {'id': name, 'object': 'model', 'created': 0, 'owned_by': 'tests'}

    def _openai_models(self, request):
        return {'object': 'list', 'data': [self._openai_model(request, name) for name in self.models or ()]}

    def _openai_upload(self, request):
        form = request.body if isinstance(request.body, dict) else {}
        if form.get('purpose') != b'batch' or not isinstance(form.get('file'), tuple):
            raise Refused(400, 'A file with purpose=batch is required.')
        return self._openai_file(request, self._store('file-', *form['file']))

    def _openai_file(self, request, identifier):
        name, content, generated = self._found(self._files, identifier)
        return {
            'id': identifier,
            'object': 'file',
            'bytes': len(content),
            'created_at': int(time.time()),
            'filename': name,
            'purpose': 'batch_output' if generated else 'batch',
            'status': 'processed',
        }

    def _openai_content(self, request, identifier):
        return self._found(self._files, identifier)[1]

    def _openai_delete(self, request, identifier):
        self._found(self._files, identifier)
        del self._files[identifier]
        return {'id': identifier, 'object': 'file', 'deleted': True}

    def _openai_batch(self, request):
        body = request.body
        if body.get('completion_window') != '24h' or 'endpoint' not in body:
            raise Refused(400, 'completion_window must be 24h, endpoint must be given.')
        _, content, _ = self._found(self._files, body.get('input_file_id'))
        batch = self._new_batch('batch_', False, '')
        batch.endpoint, batch.source, batch.metadata = body['endpoint'], body['input_file_id'], body.get('metadata')
        seen = set()
        for number, line in enumerate(filled_lines(content), start=1):
            try:
                row = json.loads(line)
                key, url = row['custom_id'], row['url']
                known = row['method'] == 'POST' and url == batch.endpoint and isinstance(key, str)
                batch.items.append((key, row['body']))
            except (ValueError, KeyError, TypeError) as error:
                batch.problem = {'code': 'invalid_json_line', 'message': repr(error), 'line': number, 'param': None}
                break
            if not known or key in seen:
                code = 'duplicate_custom_id' if known else 'invalid_request'
                batch.problem = {'code': code, 'message': 'This line is not valid.', 'line': number, 'param': None}
                break
            seen.add(key)
        if not batch.items and not batch.problem:
            batch.problem = {'code': 'empty_file', 'message': 'The file is empty.', 'line': None, 'param': None}
        return self._openai_shown(batch)

    def _openai_shown(self, batch):
        at = dict.fromkeys(f'{state}_at' for state in ('completed', 'expired', 'failed', 'cancelled', 'cancelling'))
        if f'{batch.state}_at' in at:
            at[f'{batch.state}_at'] = int(time.time())
        completed, failed = batch.counts
        return {
            'id': batch.name,
            'object': 'batch',
            'endpoint': batch.endpoint,
            'errors': {'object': 'list', 'data': [batch.problem]} if batch.state == 'failed' else None,
            'input_file_id': batch.source,
            'completion_window': '24h',
            'status': batch.state,
            'output_file_id': batch.output,
            'error_file_id': batch.errors,
            'created_at': batch.created,
            'expires_at': batch.created + 86400,
            'request_counts': {'total': len(batch.items), 'completed': completed, 'failed': failed},
            'metadata': batch.metadata,
            **at,
        }

    def _openai_poll(self, request, name):
        batch = self._found(self._batches, name)
        self._advance(batch)
        return self._openai_shown(batch)

    def _openai_cancel(self, request, name):
        batch = self._found(self._batches, name)
        if batch.state not in ('validating', 'in_progress', 'finalizing'):
            raise Refused(400, f'Cannot cancel a batch with status {batch.state}.')
        batch.state = 'cancelling'
        return self._openai_shown(batch)

    def _openai_batches(self, request):
        # The newest comes first.
        batches = [batch for batch in reversed(self._batches.values()) if not batch.gemini]
        after = request.query.get('after')
        start = 1 + [batch.name for batch in batches].index(after) if after else 0
        end = start + int(request.query.get('limit', 20))
        shown = [self._openai_shown(batch) for batch in batches[start:end]]
        ids = {'first_id': shown[0]['id'], 'last_id': shown[-1]['id']} if shown else {}
        return {'object': 'list', 'data': shown, 'has_more': end < len(batches), **ids}


OPENAI_ROUTES = [
    ('POST', r'/v1/(chat/)?completions', OpenAI._openai_generate),
    ('GET', r'/v1/models/(.+)', OpenAI._openai_model),
    ('GET', r'/v1/models', OpenAI._openai_models),
    ('POST', r'/v1/files', OpenAI._openai_upload),
    ('GET', r'/v1/files/([^/]+)', OpenAI._openai_file),
    ('GET', r'/v1/files/([^/]+)/content', OpenAI._openai_content),
    ('DELETE', r'/v1/files/([^/]+)', OpenAI._openai_delete),
    ('POST', r'/v1/batches', OpenAI._openai_batch),
    ('GET', r'/v1/batches', OpenAI._openai_batches),
    ('GET', r'/v1/batches/([^/]+)', OpenAI._openai_poll),
    ('POST', r'/v1/batches/([^/]+)/cancel', OpenAI._openai_cancel),
]


def _openai_usage(billed):
    prompt, completion = sum(each.input for each in billed), sum(each.output for each in billed)
    return {
        'prompt_tokens': prompt,
        'completion_tokens': completion,
        'total_tokens': prompt + completion,
        'prompt_tokens_details': {'cached_tokens': sum(each.cached for each in billed)},
        'completion_tokens_details': {'reasoning_tokens': sum(each.thoughts for each in billed)},
    }
