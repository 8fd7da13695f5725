// Which rows of the audit log hold a word.
import type { Schemas } from '../../api/client';

export type Row = Schemas['AuditRow'];

/** Rows that hold a word somewhere, in any case. */
export function matching(rows: Row[], find: string): Row[] {
  const word = find.trim().toLowerCase();
  if (!word) return rows;
  return rows.filter((row) => [row.actor, row.address, row.action, row.detail].some((text) => text.toLowerCase().includes(word)));
}
