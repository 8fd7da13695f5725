// Refusals of the server, as the page tells of them.
import { expect, it } from 'vitest';
import { done, isSignedOut, Refused, sentence } from './client';

const answer = (status: number, body: unknown) => Promise.resolve({ data: undefined, error: body, response: new Response(null, { status }) });

it('a refusal keeps its word for programs and its sentence for people', async () => {
  const refused = await done(answer(403, { code: 'not_owner', error: "only the project's owner may do this" })).catch((error: unknown) => error);
  expect(refused).toBeInstanceOf(Refused);
  expect((refused as Refused).code).toBe('not_owner');
  expect(sentence(refused)).toBe("Only the project's owner may do this.");
});

it('what is no JSON of ours is told by its status', async () => {
  await expect(done(answer(502, '<html>'))).rejects.toThrow('the server answered 502');
});

it('a server that is not reached says what to do', async () => {
  await expect(done(Promise.reject(new TypeError('fetch failed')))).rejects.toThrow('check that it runs');
});

it('only the end of a session sends somebody to the door', () => {
  expect(isSignedOut(new Refused(401, 'not_signed_in', ''))).toBe(true);
  expect(isSignedOut(new Refused(401, 'not_proven', ''))).toBe(false);
});
