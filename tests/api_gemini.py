"""The wire format of Gemini: generateContent, resumable uploads and batch jobs."""

import json
import math
import time

from api_parts import Asked, Refused, camel, content_fault, filled_lines, moment, names, prompt_of

# HTTP status -> the name and the number that Google has for it.
GOOGLE = {
    400: ('INVALID_ARGUMENT', 3),
    401: ('UNAUTHENTICATED', 16),
    403: ('PERMISSION_DENIED', 7),
    404: ('NOT_FOUND', 5),
    429: ('RESOURCE_EXHAUSTED', 8),
    500: ('INTERNAL', 13),
    503: ('UNAVAILABLE', 14),
    504: ('DEADLINE_EXCEEDED', 4),
}
_BATCHES = 'type.googleapis.com/google.ai.generativelanguage.v1main.GenerateContentBatch'
_RPC = 'type.googleapis.com/google.rpc.'
_GEMINI = names(
    'cachedContent contents generationConfig labels model safetySettings serviceTier store systemInstruction '
    'toolConfig tools'
)
_GENERATION = names(
    'candidateCount enableEnhancedCivicAnswers frequencyPenalty logprobs maxOutputTokens mediaResolution '
    'presencePenalty responseJsonSchema responseLogprobs responseMimeType responseModalities responseSchema seed '
    'speechConfig stopSequences temperature thinkingConfig topK topP'
)


class Gemini:
    """The answers of :class:`api_server.ApiServer` in this format."""

    def _gemini_error(self, refused):
        status = GOOGLE.get(refused.status, ('UNAVAILABLE', 14))[0]
        details = []
        if refused.status == 429:
            period = 'Day' if refused.kind == 'quota' else 'Minute'
            violation = {
                'quotaMetric': 'generativelanguage.googleapis.com/generate_content_free_tier_requests',
                'quotaId': f'GenerateRequestsPer{period}PerProjectPerModel-FreeTier',
                'quotaDimensions': {'location': 'global', 'model': 'any'},
                'quotaValue': '10',
            }
            details = [
                {'@type': f'{_RPC}QuotaFailure', 'violations': [violation]},
                {'@type': f'{_RPC}Help', 'links': [{'description': 'Learn more', 'url': 'https://ai.google.dev'}]},
                # A quota of the day names a short delay as well.
                {'@type': f'{_RPC}RetryInfo', 'retryDelay': f'{self.retry_after:g}s'},
            ]
        elif refused.code == 'API_KEY_INVALID':
            details = [{'@type': f'{_RPC}ErrorInfo', 'reason': refused.code, 'domain': 'googleapis.com'}]
        error = {'code': refused.status, 'message': refused.message, 'status': status}
        return {'error': {**error, 'details': details} if details else error}

    def _gemini_asked(self, body, model):
        if not isinstance(body, dict) or not body.get('contents'):
            raise Refused(400, '* GenerateContentRequest.contents: contents is not specified')
        body = camel(body)
        config = body.get('generationConfig') or {}
        for given, known in ((body, _GEMINI), (config, _GENERATION)):
            for name in set(given) - known:
                raise Refused(400, f'Invalid JSON payload received. Unknown name "{name}": Cannot find field.')
        model = body.get('model', model).removeprefix('models/')
        n = config.get('candidateCount', 1)
        stops = config.get('stopSequences', [])
        if not 1 <= n <= 8 or len(stops) > 5:
            raise Refused(400, 'Invalid candidateCount or stopSequences: at most 8 and 5.')
        thinking = config.get('thinkingConfig') or {}
        thoughts = min(self.thoughts, thinking.get('thinkingBudget', math.inf))
        if thoughts < 0 or thinking.get('thinkingLevel', '').upper() == 'MINIMAL':
            thoughts = self.thoughts if thoughts < 0 else 0  # a budget of -1 is the model's own
        limit = config.get('maxOutputTokens', math.inf)
        shown = thinking.get('includeThoughts', False)
        return Asked(model, [prompt_of(body)], config.get('seed'), n, stops, limit, thoughts, True, shown)

    def _gemini_answer(self, asked, choices, billed, fault):
        ends = {'stop': 'STOP', 'length': 'MAX_TOKENS', 'blocked': 'SAFETY', 'refusal': 'RECITATION'}
        candidates = []
        for index, choice in enumerate(choices):
            candidate = {'finishReason': ends[choice.end]}
            if index:  # a zero is left out, as everywhere in this format
                candidate['index'] = index
            if choice.end == 'blocked':
                rating = {'category': 'HARM_CATEGORY_DANGEROUS_CONTENT', 'probability': 'HIGH', 'blocked': True}
                candidate['safetyRatings'] = [rating]
            elif choice.end != 'refusal':
                parts = [{'text': 'Let me think.', 'thought': True}] if asked.show_thoughts and choice.thoughts else []
                if choice.text or choice.end == 'stop':
                    parts.append({'text': choice.text})
                candidate['content'] = {'role': 'model', **({'parts': parts} if parts else {})}
            candidates.append(candidate)
        if fault == 'reversed':
            candidates.reverse()
        reply = {'modelVersion': asked.model, 'responseId': self._new_id('response')}
        if fault == 'blocked_prompt':
            reply['promptFeedback'] = {'blockReason': 'PROHIBITED_CONTENT'}
        else:
            reply['candidates'] = candidates
        if fault != 'no_usage':
            (paid,) = billed
            counts = {
                'promptTokenCount': paid.input,
                'cachedContentTokenCount': paid.cached,
                'candidatesTokenCount': paid.output - paid.thoughts,
                'thoughtsTokenCount': paid.thoughts,
                'totalTokenCount': paid.input + paid.output,
            }
            reply['usageMetadata'] = {name: count for name, count in counts.items() if count}
        return reply

    def _gemini_generate(self, request, model):
        body, billed = self._run(True, request.body, content_fault(request), model=model)
        return body, {}, billed

    def _gemini_model(self, request, name):
        self._check_model(name)
        actions = ['generateContent', 'countTokens', 'batchGenerateContent']
        limits = {'inputTokenLimit': 1048576, 'outputTokenLimit': 65536}
        return {'name': f'models/{name}', 'displayName': name, 'supportedGenerationMethods': actions, **limits}

    def _gemini_upload(self, request):
        command = request.headers.get('x-goog-upload-command')
        if command == 'start':
            file = request.body.get('file', {})
            name = (file.get('name') or self._new_id('files/upload')).removeprefix('files/')
            token = self._new_id('token')
            self._uploads[token] = [name, file.get('displayName'), b'']
            url = f'{self.url}/upload/v1beta/files?upload_id={token}&upload_protocol=resumable'
            return {}, {'X-Goog-Upload-URL': url, 'X-Goog-Upload-Status': 'active'}, []
        upload = self._uploads.get(request.query.get('upload_id'))
        if not upload or int(request.headers.get('x-goog-upload-offset', -1)) != len(upload[2]):
            raise Refused(400, 'There is no such upload, or it is elsewhere.')
        upload[2] += request.body
        if 'finalize' not in command:
            return {}, {'X-Goog-Upload-Status': 'active'}, []
        name, title, content = upload
        self._files[name] = (title, content, False)
        return {'file': self._gemini_file(request, name)}, {'X-Goog-Upload-Status': 'final'}, []

    def _gemini_file(self, request, name):
        title, content, generated = self._found(self._files, name)
        shown = {
            'name': f'files/{name}',
            'mimeType': 'application/jsonl',
            'sizeBytes': str(len(content)),
            'createTime': moment(time.time()),
            'uri': f'{self.url}/v1beta/files/{name}',
            'state': 'ACTIVE',
            'source': 'GENERATED' if generated else 'UPLOADED',
        }
        if generated:
            shown['downloadUri'] = f'{shown["uri"]}:download?alt=media'
        return {**shown, 'displayName': title} if title else shown

    def _gemini_download(self, request, name):
        _, content, generated = self._found(self._files, name)
        if not generated:
            raise Refused(400, 'Only generated files can be downloaded.')
        return content

    def _gemini_delete(self, request, kind, name):
        where = {'files': self._files, 'batches': self._batches}[kind]
        self._found(where, name)
        del where[name]
        return {}

    def _gemini_batch(self, request, model):
        self._check_model(model)
        asked = camel(request.body.get('batch', {}), depth=2)
        source = asked.get('inputConfig', {})
        inlined, content = 'requests' in source, b''
        if not inlined:
            _, content, _ = self._found(self._files, source.get('fileName', '').removeprefix('files/'))
        batch = self._new_batch('job', True, model)
        batch.title, batch.inlined = asked.get('displayName'), inlined
        for row in source['requests']['requests'] if inlined else ():
            batch.items.append((row.get('metadata'), row['request']))
        for number, line in enumerate(filled_lines(content), start=1):
            try:
                row = json.loads(line)
                batch.items.append((row['key'], row['request']))
            except (ValueError, KeyError, TypeError) as error:
                batch.problem = {'message': f'line {number}: {error!r}'}
                break
        return self._gemini_shown(batch)

    def _gemini_shown(self, batch):
        states = {'validating': 'PENDING', 'in_progress': 'RUNNING', 'finalizing': 'RUNNING', 'cancelling': 'RUNNING'}
        state = states.get(batch.state, batch.state.upper()).replace('COMPLETED', 'SUCCEEDED')
        completed, failed = batch.counts
        stats = {'requestCount': str(len(batch.items))}
        if state == 'SUCCEEDED':
            stats |= {'successfulRequestCount': str(completed), 'failedRequestCount': str(failed)}
        about = {
            '@type': _BATCHES,
            'model': f'models/{batch.model}',
            'displayName': batch.title or '',
            'createTime': moment(batch.created),
            'updateTime': moment(time.time()),
            'batchStats': stats,
            'state': f'BATCH_STATE_{state}',
            'name': f'batches/{batch.name}',
        }
        shown = {'name': f'batches/{batch.name}', 'metadata': about}
        if state in ('PENDING', 'RUNNING'):
            return shown
        about['endTime'] = about['updateTime']
        if state == 'SUCCEEDED':
            if batch.inlined:
                about['output'] = {'inlinedResponses': {'inlinedResponses': batch.results}}
            elif batch.output:
                about['output'] = {'responsesFile': f'files/{batch.output}'}
            return {**shown, 'done': True, 'response': {'@type': f'{_BATCHES}Output', **about.get('output', {})}}
        message = batch.problem['message'] if batch.problem else f'The batch is {batch.state}.'
        return {**shown, 'done': True, 'error': {'code': 3 if batch.problem else 1, 'message': message}}

    def _gemini_poll(self, request, name):
        batch = self._found(self._batches, name)
        self._advance(batch)
        return self._gemini_shown(batch)

    def _gemini_cancel(self, request, name):
        batch = self._found(self._batches, name)
        if batch.state not in ('validating', 'in_progress', 'finalizing'):
            raise Refused(400, f'The batch is {batch.state}.')
        batch.state = 'cancelling'
        return {}

    def _gemini_batches(self, request):
        batches = [batch for batch in reversed(self._batches.values()) if batch.gemini]
        start = int(request.query.get('pageToken') or 0)
        end = start + int(request.query.get('pageSize') or 20)
        more = {'nextPageToken': str(end)} if end < len(batches) else {}
        return {'operations': [self._gemini_shown(batch) for batch in batches[start:end]], **more}


GEMINI_ROUTES = [
    ('POST', r'/v1(?:beta)?/models/([^:]+):generateContent', Gemini._gemini_generate),
    ('POST', r'/v1(?:beta)?/models/([^:]+):batchGenerateContent', Gemini._gemini_batch),
    ('GET', r'/v1(?:beta)?/models/([^:]+)', Gemini._gemini_model),
    ('POST', r'/upload/v1(?:beta)?/files', Gemini._gemini_upload),
    ('GET', r'/v1(?:beta)?/files/([^:]+)', Gemini._gemini_file),
    ('GET', r'/v1(?:beta)?/files/([^:]+):download', Gemini._gemini_download),
    ('DELETE', r'/v1(?:beta)?/(files|batches)/([^:]+)', Gemini._gemini_delete),
    ('GET', r'/v1(?:beta)?/batches', Gemini._gemini_batches),
    ('GET', r'/v1(?:beta)?/batches/([^:]+)', Gemini._gemini_poll),
    ('POST', r'/v1(?:beta)?/batches/([^:]+):cancel', Gemini._gemini_cancel),
]
