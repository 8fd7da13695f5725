// Which rows of the audit log hold a word.
import type { Schemas } from '../../api/client';
import { who, type People } from '../../pieces/format';

export type Row = Schemas['AuditRow'];

/** Rows that hold a word somewhere, in any case; whoever did it is found by address too. */
export function matching(rows: Row[], find: string, people: People = []): Row[] {
  const word = find.trim().toLowerCase();
  if (!word) return rows;
  return rows.filter((row) => [row.actor, who(row.actor, people), row.address, row.action, row.detail].some((text) => text.toLowerCase().includes(word)));
}
