// What the address of the lexicon holds, and what it asks. Pure.

export const VIEWS = { events: 'Events', properties: 'Event properties', profiles: 'Profile properties' } as const;
export type View = keyof typeof VIEWS;
export const SHOWN = { '': 'All but hidden', hidden: 'Hidden', dropped: 'Dropped', all: 'All' } as const;
export type Shown = keyof typeof SHOWN;
export type LexiconSearch = { view?: View; find?: string; shown?: Shown; sort?: 'name' };

export const PAGE_ROWS = 250;

export function lexiconSearch({ view, find, shown, sort }: Record<string, unknown>): LexiconSearch {
  const among = <T extends string>(value: unknown, known: object): value is T => typeof value === 'string' && Object.hasOwn(known, value);
  return {
    ...(among<View>(view, VIEWS) && view !== 'events' && { view }),
    ...(typeof find === 'string' && find && { find }),
    ...(among<Shown>(shown, SHOWN) && shown !== '' && { shown }),
    ...(sort === 'name' && { sort }),
  };
}

/** What is asked of the lexicon for it. */
export function askedOf({ find, shown = '', sort }: LexiconSearch, offset: number) {
  return {
    ...(find && { search: find }),
    ...(shown === '' && { hidden: false }),
    ...(shown === 'hidden' && { hidden: true }),
    ...(shown === 'dropped' && { dropped: true }),
    sort: sort ?? ('count' as const),
    offset,
    rows_max: PAGE_ROWS,
  };
}

/** Tags as they are typed: `a, b`. */
export const tagsOf = (text: string) => [...new Set(text.split(',').map((tag) => tag.trim()).filter(Boolean))];
