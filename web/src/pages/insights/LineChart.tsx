// Lines over time. Whoever does not see them reads the table below, or goes through the times with the arrow keys.
import { Text } from '@mantine/core';
import { useElementSize } from '@mantine/hooks';
import { useState, type KeyboardEvent, type PointerEvent } from 'react';
import { figure } from '../../pieces/format';
import { Name } from '../../pieces/text';
import { labelled, marks, nearest, pathOf } from './chart';
import type { Row } from './rows';

/** More lines cannot be told apart; the table has them all. */
export const LINES_MAX = 8;
const HEIGHT = 260;
const FRAME = { top: 10, right: 12, bottom: 26, left: 52 };
/** Lines differ by more than their colour. */
const DASHES = ['', '7 4', '2 3', '10 3 2 3'];
const compact = new Intl.NumberFormat(undefined, { notation: 'compact', maximumFractionDigits: 1 });

/** A piece of a line as it looks in the chart, beside its name. */
export function Swatch({ index }: { index: number }) {
  return (
    <svg width="22" height="8" aria-hidden className={`line line-${index % LINES_MAX}`}>
      <path d="M1 4H21" strokeDasharray={DASHES[index % DASHES.length]} />
    </svg>
  );
}

export function LineChart({ times, rows, label, unfinished }: { times: string[]; rows: Row[]; label: string; unfinished: boolean }) {
  const { ref, width } = useElementSize();
  const [at, setAt] = useState<number>();
  const shown = rows.slice(0, LINES_MAX);
  const top = marks(Math.max(0, ...shown.flatMap((row) => row.numbers)));
  const inner = { width: Math.max(0, width - FRAME.left - FRAME.right), height: HEIGHT - FRAME.top - FRAME.bottom };
  const last = times.length - 1;
  const x = (index: number) => FRAME.left + (last === 0 ? inner.width / 2 : (index / last) * inner.width);
  const y = (value: number) => FRAME.top + inner.height * (1 - value / top.at(-1)!);
  const point = (event: PointerEvent<HTMLDivElement>) => {
    const box = event.currentTarget.getBoundingClientRect();
    setAt(nearest((event.clientX - box.left - FRAME.left) / (inner.width || 1), times.length));
  };
  const step = (event: KeyboardEvent) => {
    const to = { ArrowLeft: (at ?? times.length) - 1, ArrowRight: (at ?? -1) + 1, Home: 0, End: last, Escape: undefined }[event.key];
    if (!['ArrowLeft', 'ArrowRight', 'Home', 'End', 'Escape'].includes(event.key)) return;
    event.preventDefault();
    setAt(to === undefined ? undefined : Math.min(last, Math.max(0, to)));
  };
  const place = Math.min(at ?? last, last);
  const told = `${times[place]}: ${shown.map((row) => `${row.name} ${figure(row.numbers[place] ?? 0)}`).join(', ')}`;
  // What is still being counted is a line of its own, fainter.
  const parts = (numbers: number[]) => (unfinished && numbers.length > 1 ? { done: numbers.slice(0, -1), open: numbers.slice(-2) } : { done: numbers, open: [] });
  return (
    <div
      ref={ref}
      className="chart"
      role="slider"
      tabIndex={0}
      aria-label={label}
      aria-valuemin={0}
      aria-valuemax={last}
      aria-valuenow={place}
      aria-valuetext={told}
      onKeyDown={step}
      onPointerMove={point}
      onPointerDown={point}
      onPointerLeave={() => setAt(undefined)}
      onBlur={() => setAt(undefined)}
    >
      {width > 0 && (
        <svg width={width} height={HEIGHT} aria-hidden>
          {top.map((mark) => (
            <g key={mark}>
              <path className="grid" d={`M${FRAME.left} ${y(mark)}H${width - FRAME.right}`} />
              <text x={FRAME.left - 8} y={y(mark) + 4} textAnchor="end">
                {compact.format(mark)}
              </text>
            </g>
          ))}
          {labelled(times.length, Math.floor(inner.width / 92)).map((index) => (
            <text key={index} x={x(index)} y={HEIGHT - 8} textAnchor={last === 0 || (index > 0 && index < last) ? 'middle' : index === 0 ? 'start' : 'end'}>
              {times[index]!.slice(times[index]!.length > 10 ? 5 : 0, 16)}
            </text>
          ))}
          {shown.map((row, index) => {
            const { done, open } = parts(row.numbers);
            return (
              <g key={row.name} className={`line line-${index}`}>
                <path d={pathOf(done, x, y)} strokeDasharray={DASHES[index % DASHES.length]} />
                {open.length > 0 && <path className="open" d={pathOf(open, (step) => x(last - 1 + step), y)} />}
                {row.numbers.length === 1 && <circle cx={x(0)} cy={y(row.numbers[0]!)} r={3.5} />}
                {at !== undefined && <circle cx={x(place)} cy={y(row.numbers[place] ?? 0)} r={3.5} />}
              </g>
            );
          })}
          {at !== undefined && <path className="at" d={`M${x(place)} ${FRAME.top}V${HEIGHT - FRAME.bottom}`} />}
        </svg>
      )}
      {at !== undefined && (
        <div className="reading" style={x(place) > width / 2 ? { right: width - x(place) + 12 } : { left: x(place) + 12 }} aria-hidden>
          <Text size="xs" c="dimmed">
            {times[place]}
          </Text>
          {shown.map((row, index) => (
            <div key={row.name} className="reading-row">
              <Swatch index={index} />
              <Name>{row.name.slice(0, 60)}</Name>
              <span className="figures">{figure(row.numbers[place] ?? 0)}</span>
            </div>
          ))}
        </div>
      )}
    </div>
  );
}
