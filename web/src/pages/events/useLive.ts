// The stream of events of a project. What comes is put on the screen four times a second, however much it is.
import { useCallback, useEffect, useRef, useState } from 'react';
import { eventOf, newestFirst, NOTHING, refusalOf, SHOWN_MAX, type Counts, type Seen } from './window';

export type LiveFilter = { event?: string; distinct_id?: string; text?: string };
export type Live = {
  state: 'opening' | 'open' | 'again' | 'closed';
  /** Since when the counts count. */
  since: number;
  counts: Counts;
  rows: Seen[];
  /** Opens it anew, with counts of its own. */
  restart: () => void;
};

const SHOW_EVERY_MS = 250;

/** Watches a project's events. While it is paused, rows stay as they are and counts go on. */
export function useLive(project: number, filter: LiveFilter, isPaused: boolean): Live {
  const [shown, setShown] = useState<Omit<Live, 'restart'>>({ state: 'opening', since: Date.now(), counts: NOTHING, rows: [] });
  const [turn, setTurn] = useState(0);
  const paused = useRef(isPaused);
  paused.current = isPaused;
  const { event, distinct_id, text } = filter;
  useEffect(() => {
    const asked = new URLSearchParams(Object.entries({ event, distinct_id, text }).filter((entry): entry is [string, string] => Boolean(entry[1])));
    const source = new EventSource(`/api/v1/projects/${project}/live?${asked}`);
    let came: Seen[] = [];
    let [key, counts, state, since] = [0, NOTHING, 'opening' as Live['state'], Date.now()];
    const add = (seen: Seen) => {
      came.push(seen);
      if (came.length > SHOWN_MAX) came = came.slice(-SHOWN_MAX);
    };
    source.onopen = () => {
      // A stream that was opened again counts from its own beginning.
      [state, since, counts] = ['open', Date.now(), NOTHING];
    };
    source.onerror = () => {
      state = source.readyState === EventSource.CLOSED ? 'closed' : 'again';
    };
    source.addEventListener('event', ({ data }) => add(eventOf(String(data), key++, Date.now())));
    source.addEventListener('rejected', ({ data }) => add(refusalOf(String(data), key++, Date.now())));
    source.addEventListener('count', ({ data }) => (counts = JSON.parse(String(data)) as Counts));
    setShown({ state, since, counts, rows: [] });
    const timer = setInterval(() => {
      const added = paused.current ? [] : came;
      if (added.length > 0) came = [];
      setShown((before) => {
        if (added.length === 0 && before.state === state && before.counts === counts && before.since === since) return before;
        return { state, since, counts, rows: added.length > 0 ? newestFirst(before.rows, added) : before.rows };
      });
    }, SHOW_EVERY_MS);
    return () => {
      clearInterval(timer);
      source.close();
    };
  }, [project, event, distinct_id, text, turn]);
  return { ...shown, restart: useCallback(() => setTurn((number) => number + 1), []) };
}
