// Figures and instants as people read them. Pure.

const whole = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'short' });
const days = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium' });
const numbers = new Intl.NumberFormat();
const relative = new Intl.RelativeTimeFormat(undefined, { numeric: 'auto' });

/** An instant in the reader's zone. */
export function instant(at: string): string {
  const time = new Date(at);
  return Number.isNaN(time.getTime()) ? at : whole.format(time);
}

/** The day of an instant in the reader's zone. */
export function dayOf(at: string): string {
  const time = new Date(at);
  return Number.isNaN(time.getTime()) ? at : days.format(time);
}

/** How long ago an instant was, in the largest unit that it fills. */
export function since(at: string, now: number): string {
  const seconds = Math.round((new Date(at).getTime() - now) / 1000);
  if (Number.isNaN(seconds)) return at;
  const size = Math.abs(seconds);
  if (size < 60) return 'just now';
  if (size < 3600) return relative.format(Math.trunc(seconds / 60), 'minute');
  if (size < 86_400) return relative.format(Math.trunc(seconds / 3600), 'hour');
  return relative.format(Math.trunc(seconds / 86_400), 'day');
}

export function figure(value: number): string {
  return numbers.format(value);
}

/** Accounts whose addresses the reader may know. */
export type People = readonly { account_id: number; email: string }[];

/** Who did something, by address where it is known: `account 7` is what the server's records say. */
export function who(actor: string, people: People): string {
  const id = /^account (\d+)$/.exec(actor)?.[1];
  return people.find((person) => String(person.account_id) === id)?.email ?? actor;
}

/** Addresses as a list that is read aloud well: `a, b or c`. */
export function either(words: string[]): string {
  if (words.length < 2) return words.join('');
  return `${words.slice(0, -1).join(', ')} or ${words.at(-1)}`;
}

/** Rows as CSV. A cell that a spreadsheet would run as a formula is text (OWASP: CSV injection). */
export function csv(rows: (string | number | null)[][]): string {
  const cell = (value: string | number | null): string => {
    const text = value === null ? '' : String(value);
    const inert = typeof value === 'string' && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
    return /[",\r\n]/.test(inert) ? `"${inert.replaceAll('"', '""')}"` : inert;
  };
  return rows.map((row) => row.map(cell).join(',')).join('\r\n') + '\r\n';
}

/** Where the page may lead after signing in: an address of its own, and nothing else. */
export function ownAddress(next: unknown): string {
  if (typeof next !== 'string' || !/^\/(app|confirm-email|invitation)(\/|\?|$)/.test(next) || next.includes('\\')) return '/app';
  return next;
}
