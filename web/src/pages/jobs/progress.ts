// How far a job is, in words. Pure.
import type { Schemas } from '../../api/client';
import { figure } from '../../pieces/format';

export type Job = Schemas['JobView'];
export type Progress = NonNullable<Job['progress']>;

/** From 0 to 100, where the whole is known. */
export function partOf({ done, total }: Progress): number | undefined {
  return total > 0 ? Math.min(100, Math.floor((done / total) * 100)) : undefined;
}

const PHASES: Record<string, string> = {
  fetching: 'Fetching',
  storing: 'Storing',
  waiting: 'Waiting',
  comparing: 'Comparing what came with what is stored',
  writing: 'Writing',
};

/** What it does now, and how much is done. */
export function told(progress: Progress): string {
  const { phase, why, part, done, total, unit, records } = progress;
  const does = [PHASES[phase] ?? phase, part].filter(Boolean).join(' ') + (why ? `: ${why}` : '');
  const far = total > 0 ? `${figure(done)} of ${figure(total)} ${unit}` : done > 0 ? `${figure(done)} ${unit}` : '';
  return [does, far, records > 0 ? `${figure(records)} records` : ''].filter(Boolean).join(' · ');
}
