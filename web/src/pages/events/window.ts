// What is on the screen of a stream that may bring more than anybody can read: the newest samples, and exact counts. Pure.
import type { Properties } from '../../api/reports';
import { exact, textOf } from '../../pieces/exact';

/** An event that was stored, or a record that was not stored as it was sent. */
export type Seen = { key: number; at: number; name: string; user: string; properties: Properties; refused?: { reason: string; outcome: string; field: string } };
export type Counts = { accepted: number; rejected: number; sampled_out: number; missed: number };

export const NOTHING: Counts = { accepted: 0, rejected: 0, sampled_out: 0, missed: 0 };
/** Rows on the screen; what is older gives way. */
export const SHOWN_MAX = 100;

const asProperties = (value: unknown): Properties => (typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Properties) : {});

/** A message `event`: an event as export has it. */
export function eventOf(data: string, key: number, at: number): Seen {
  const { event, properties } = exact(data) as { event: string; properties: Properties };
  return { key, at, name: event, user: textOf(properties.distinct_id), properties };
}

/** A message `rejected`: what came, as far as it may be shown, and why. */
export function refusalOf(data: string, key: number, at: number): Seen {
  const { reason, outcome, field, record } = exact(data) as { reason: string; outcome: string; field: string; record: string };
  const sent = asProperties(parsed(record));
  const inner = asProperties(sent.properties);
  const name = typeof sent.event === 'string' ? sent.event : '';
  return { key, at, name, user: textOf(inner.distinct_id ?? sent.$distinct_id), properties: Object.keys(sent).length > 0 ? sent : record ? { record } : {}, refused: { reason, outcome, field } };
}

function parsed(text: string): unknown {
  try {
    return exact(text);
  } catch {
    // A long record is cut and no JSON any more.
    return undefined;
  }
}

/** The newest rows first, so many at most. */
export function newestFirst(shown: Seen[], came: Seen[]): Seen[] {
  return [...came.toReversed(), ...shown].slice(0, SHOWN_MAX);
}

/** A reason in words: `old_time` is `old time`. */
export const inWords = (reason: string) => reason.replaceAll('_', ' ');
