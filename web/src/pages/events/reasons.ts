// What was not stored as it was sent, by reason. Pure.
import type { Schemas } from '../../api/client';

type Rejected = Schemas['Rejected'];

/** What there is of a reason, on all days together. */
export function byReason({ counts, samples }: Rejected) {
  const reasons = [...new Set(counts.map((day) => day.reason))].map((reason) => {
    const days = counts.filter((day) => day.reason === reason);
    const last = days.map((day) => day.last_seen_at).sort().at(-1);
    return {
      reason,
      outcome: days[0]!.outcome,
      help: days[0]!.help,
      count: days.reduce((sum, day) => sum + day.count, 0),
      last,
      days,
      samples: samples.filter((sample) => sample.reason === reason),
    };
  });
  return reasons.sort((a, b) => b.count - a.count);
}
