// What the address of a report holds, and what it asks. Pure.
import { conditionsIn, quoted, whereOf, type Condition } from '../../pieces/where';

export const RANGES = { today: 'Today', '7d': 'Last 7 days', '30d': 'Last 30 days', '90d': 'Last 90 days', '12m': 'Last 12 months' } as const;
export type Range = keyof typeof RANGES;
export const UNITS = ['hour', 'day', 'week', 'month'] as const;
export type Unit = (typeof UNITS)[number];
export type Counted = 'general' | 'unique';

export type InsightsSearch = {
  event?: string;
  /** Days that go along with today; both dates take its place. */
  range?: Range;
  from?: string;
  to?: string;
  unit?: Unit;
  type?: Counted;
  by?: string;
  where?: Condition[];
};

/** Values of a breakdown that are counted: the most frequent ones. */
export const VALUES_MAX = 100;

const isDay = (value: unknown): value is string => typeof value === 'string' && /^\d{4}-\d{2}-\d{2}$/.test(value) && !Number.isNaN(Date.parse(`${value}T00:00:00Z`));
const text = (value: unknown): value is string => typeof value === 'string' && value !== '';
const among = <T extends string>(value: unknown, known: readonly T[]): value is T => known.includes(value as T);

/** An address as far as it makes sense. */
export function insightsSearch(search: Record<string, unknown>): InsightsSearch {
  const { event, range, from, to, unit, type, by } = search;
  const where = conditionsIn(search.where);
  const hasDates = isDay(from) && isDay(to) && from <= to;
  return {
    ...(text(event) && { event }),
    ...(hasDates ? { from, to } : among(range, Object.keys(RANGES) as Range[]) && { range }),
    ...(among(unit, UNITS) && { unit }),
    ...(type === 'unique' && { type }),
    ...(text(by) && { by }),
    ...(where.length > 0 && { where }),
  };
}

/** What clocks in a zone show: `2026-11-25 23:30:00`. */
export function wallIn(zone: string, now: number): string {
  const digits = '2-digit';
  const shown = { year: 'numeric', month: digits, day: digits, hour: digits, minute: digits, second: digits } as const;
  const parts = new Intl.DateTimeFormat('en', { timeZone: zone, hourCycle: 'h23', ...shown }).formatToParts(now);
  const part = (type: string) => parts.find((found) => found.type === type)?.value ?? '';
  return `${part('year')}-${part('month')}-${part('day')} ${part('hour')}:${part('minute')}:${part('second')}`;
}

/** The day of an instant in a zone. */
export const dayIn = (zone: string, now: number) => wallIn(zone, now).slice(0, 10);

/** The times of an answer that have begun: what is yet to come is no zero. */
export function begun(times: string[], wall: string): string[] {
  return times.filter((time) => time <= wall);
}

/** A day so many days later. */
export function plusDays(day: string, days: number): string {
  return new Date(Date.parse(`${day}T00:00:00Z`) + days * 86_400_000).toISOString().slice(0, 10);
}

/** The first and last day that are asked for. */
export function daysOf({ range = '30d', from, to }: InsightsSearch, today: string): { from_date: string; to_date: string } {
  if (from !== undefined && to !== undefined) return { from_date: from, to_date: to };
  const back = { today: 0, '7d': 6, '30d': 29, '90d': 89, '12m': 364 }[range];
  return { from_date: plusDays(today, -back), to_date: today };
}

/** How many days there are, both ends counted. */
export const lengthOf = (days: { from_date: string; to_date: string }) => Math.round((Date.parse(days.to_date) - Date.parse(days.from_date)) / 86_400_000) + 1;

/** The unit that is asked for, or the one that fits; users are counted by days at least. */
export function unitOf({ unit, type }: InsightsSearch, days: number): Unit {
  const fits: Unit = days <= 2 && type !== 'unique' ? 'hour' : days <= 92 ? 'day' : 'week';
  return unit === undefined || (unit === 'hour' && type === 'unique') ? fits : unit;
}

/** What `segmentation` is asked: over time, and in all. */
export function askedOf(search: InsightsSearch, days: { from_date: string; to_date: string }) {
  const length = lengthOf(days);
  const shared = {
    event: search.event,
    ...days,
    type: search.type ?? 'general',
    where: whereOf(search.where ?? []),
    on: search.by === undefined ? undefined : `properties[${quoted(search.by)}]`,
    limit: VALUES_MAX,
  };
  return {
    series: { ...shared, unit: unitOf(search, length) },
    // Users of several days are no sum: all days are one bucket of them.
    whole: search.type === 'unique' ? { ...shared, interval: length } : undefined,
  };
}
