// Reports and profiles, read by the session of whoever signed in. They are Mixpanel's wire, which has no OpenAPI document of ours: what is
// read of it is typed here.
import { exact, type Json } from '../pieces/exact';
import { Refused } from './client';

type Query = Record<string, string | number | undefined>;

/** The text of an answer; a refusal is thrown with the server's own words. */
async function read(path: string, query: Query, signal: AbortSignal): Promise<string> {
  const asked = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) if (value !== undefined && value !== '') asked.set(name, String(value));
  let answer: Response;
  try {
    answer = await fetch(`/api/query${path}?${asked}`, { signal });
  } catch (error) {
    if (signal.aborted) throw error;
    throw new Refused(0, 'unreachable', 'the server cannot be reached: check that it runs, then try again');
  }
  const text = await answer.text();
  if (answer.ok) return text;
  throw new Refused(answer.status, answer.status === 401 ? 'not_signed_in' : 'unread', said(text) ?? `the server answered ${answer.status}`);
}

function said(text: string): string | undefined {
  try {
    const { error } = JSON.parse(text) as { error?: unknown };
    return typeof error === 'string' ? error : undefined;
  } catch {
    return undefined;
  }
}

export type Properties = { [name: string]: Json };
export type Profile = { $distinct_id: string; $properties: Properties };
export type ProfilesPage = { results: Profile[]; page: number; page_size: number; session_id: string; total: number };

/** A page of profiles. Later pages name the session of the first, which lives for half an hour. */
export async function profiles(project: number, asked: Query, signal: AbortSignal): Promise<ProfilesPage> {
  return exact(await read('/engage', { project_id: project, ...asked }, signal)) as unknown as ProfilesPage;
}

export type Series = { series: string[]; values: Record<string, Record<string, number>> };

/** Counts of an event over time, split by a property where one is named. */
export async function segmentation(project: number, asked: Query, signal: AbortSignal): Promise<Series> {
  return (JSON.parse(await read('/segmentation', { project_id: project, ...asked }, signal)) as { data: Series }).data;
}

/** Names of events of some days, the most frequent first. */
export async function namesOfEvents(project: number, days: { from_date: string; to_date: string }, signal: AbortSignal): Promise<string[]> {
  return JSON.parse(await read('/events/names', { project_id: project, type: 'general', limit: 5000, ...days }, signal)) as string[];
}

/** Names of properties of an event, the most frequent first. */
export async function namesOfProperties(project: number, event: string, days: { from_date: string; to_date: string }, signal: AbortSignal): Promise<string[]> {
  // A bare name that reads as JSON would be taken for it.
  const asked = { project_id: project, event: JSON.stringify(event), limit: 2000, ...days };
  return [...Object.keys(JSON.parse(await read('/events/properties/top', asked, signal)) as object)];
}

/** Events as they were sent, a JSON object a line. */
export async function exported(project: number, asked: Query, signal: AbortSignal): Promise<string> {
  return read('/export', { project_id: project, ...asked }, signal);
}
