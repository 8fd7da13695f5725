// The newest events of a user, out of exports of bounded size. Pure.
import type { Properties } from '../../api/reports';
import { exact, type Json } from '../../pieces/exact';

/** An event of the feed; `time` in seconds. */
export type FeedEvent = { event: string; time: number; id: string; properties: Properties };

/** What one export brings at most. */
export const READ_ROWS_MAX = 1000;

/** The lines of an export, the newest first. */
export function eventsOf(text: string): FeedEvent[] {
  const lines = text.split('\n').filter(Boolean);
  if (lines.at(-1) === 'export terminated early') throw new Error('the server ended the answer early: try again');
  const events = lines.map((line) => {
    const { event, properties } = exact(line) as { event: string; properties: { [name: string]: Json } };
    const { time, $insert_id, ...rest } = properties;
    return { event, time: Number(time), id: String($insert_id), properties: rest };
  });
  return events.sort((a, b) => b.time - a.time);
}

export type Piece = {
  events: FeedEvent[];
  /** All events since then, and before where the piece ended, are in it; seconds. */
  since: number;
};

/** Reads the newest events between two instants, in seconds. Lines of an export come in no order: what has more than one brings is halved. */
export async function newest(read: (from: number, to: number) => Promise<FeedEvent[]>, from: number, to: number): Promise<Piece> {
  let since = from;
  for (;;) {
    const events = await read(since, to);
    if (events.length < READ_ROWS_MAX || to - since <= 1) return { events, since };
    since = Math.ceil((since + to) / 2);
  }
}
