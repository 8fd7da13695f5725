// What the address of the events holds. Pure.

export type EventsSearch = { view?: 'rejected'; event?: string; distinct_id?: string; text?: string };

export function eventsSearch({ view, event, distinct_id, text }: Record<string, unknown>): EventsSearch {
  const filled = (value: unknown): value is string => typeof value === 'string' && value !== '';
  return {
    ...(view === 'rejected' && { view }),
    ...(filled(event) && { event }),
    ...(filled(distinct_id) && { distinct_id }),
    ...(filled(text) && { text }),
  };
}
