// The management API, typed by its OpenAPI document. Nothing else on the page speaks to it.
import createClient from 'openapi-fetch';
import type { components, paths } from './schema';

export type Schemas = components['schemas'];
export type Role = Schemas['RoleName'];

/** Why the server did not do it: a word for programs, a sentence for people. */
export class Refused extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

export const api = createClient<paths>({ baseUrl: '/api/v1' });

type Answer<T> = { data?: T; error?: unknown; response: Response };

/** What was answered; a refusal is thrown. */
export async function done<T>(call: Promise<Answer<T>>): Promise<T> {
  let answer: Answer<T>;
  try {
    answer = await call;
  } catch {
    throw new Refused(0, 'unreachable', 'the server cannot be reached: check that it runs, then try again');
  }
  if (answer.response.ok && answer.data !== undefined) return answer.data;
  const body = (answer.error ?? {}) as { error?: unknown; code?: unknown };
  const message = typeof body.error === 'string' ? body.error : `the server answered ${answer.response.status}`;
  throw new Refused(answer.response.status, typeof body.code === 'string' ? body.code : 'unknown', message);
}

/** A refusal as a sentence. */
export function sentence(error: unknown): string {
  const text = error instanceof Error ? error.message : 'something went wrong';
  const first = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(first) ? first : `${first}.`;
}

/** Whether somebody has to sign in (again). */
export function isSignedOut(error: unknown): boolean {
  return error instanceof Refused && error.code === 'not_signed_in';
}
