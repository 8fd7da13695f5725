// An answer of `segmentation` as lines, the largest first. Pure.
import type { Series } from '../../api/reports';

export type Row = { name: string; numbers: number[]; all: number };

/** The lines of an answer; `whole` says what each has in all, where that is no sum. */
export function rowsOf({ series, values }: Series, whole?: Series): Row[] {
  const rows = Object.entries(values).map(([name, byTime]) => {
    const numbers = series.map((time) => byTime[time] ?? 0);
    const counted = whole && Object.hasOwn(whole.values, name) ? whole.values[name] : undefined;
    const all = whole ? Object.values(counted ?? {}).reduce((sum, number) => sum + number, 0) : numbers.reduce((sum, number) => sum + number, 0);
    return { name, numbers, all };
  });
  return rows.sort((a, b) => b.all - a.all || a.name.localeCompare(b.name));
}

/** The table as a file has it: a line a time, a column a name. */
export function sheet(times: string[], rows: Row[]): (string | number)[][] {
  return [['date', ...rows.map((row) => row.name)], ...times.map((time, index) => [time, ...rows.map((row) => row.numbers[index] ?? 0)])];
}
