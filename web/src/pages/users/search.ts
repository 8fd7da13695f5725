// What the address of the list of users holds. Pure.
import { conditionsIn, quoted, whereOf, type Condition } from '../../pieces/where';

export type UsersSearch = { find?: string; where?: Condition[]; columns?: string[]; sort?: string; descending?: true };

/** Columns until somebody chooses others. */
export const COLUMNS = ['$name', '$email', '$last_seen'];
export const PAGE_ROWS = 100;

const texts = (value: unknown): string[] | undefined => (Array.isArray(value) ? value.filter((name): name is string => typeof name === 'string').slice(0, 30) : undefined);

export function usersSearch(search: Record<string, unknown>): UsersSearch {
  const where = conditionsIn(search.where);
  const columns = texts(search.columns);
  return {
    ...(typeof search.find === 'string' && search.find && { find: search.find }),
    ...(where.length > 0 && { where }),
    ...(columns && { columns }),
    ...(typeof search.sort === 'string' && search.sort && { sort: search.sort }),
    ...(search.descending === true && { descending: true as const }),
  };
}

/** What is asked of `engage` for it. */
export function askedOf(search: UsersSearch, page: { page: number; session_id: string } | undefined) {
  const { page: number, session_id } = page ?? {};
  // A further page is one of rows that the session holds: nothing else is asked again.
  if (session_id !== undefined) return { session_id, page: number, page_size: PAGE_ROWS };
  return {
    search: search.find,
    where: whereOf(search.where ?? []),
    page_size: PAGE_ROWS,
    ...(search.sort && { sort_key: `properties[${quoted(search.sort)}]`, sort_order: search.descending ? 'descending' : 'ascending' }),
  };
}
