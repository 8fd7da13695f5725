// Secrets. One at a time is shown, in the state of one component, and dropped after a minute, when the page is hidden and when it is left.
import { Button, Group, Stack, Text } from '@mantine/core';
import { IconEye, IconEyeOff } from '@tabler/icons-react';
import { useEffect, useId, useState, useSyncExternalStore } from 'react';
import { CopyButton } from './copy';
import { Problem, useAction } from './action';
import { useProof } from './proof';

/** What stands beside every API secret (F11). */
export const NEVER_SHARE = 'Never share this API secret or send it over email.';
/** How long a secret stays on the screen. */
export const SHOWN_MS_MAX = 60_000;

/** Which secret is shown; revealing another hides it. */
let shown: string | undefined;
const watchers = new Set<() => void>();
function show(id: string | undefined): void {
  shown = id;
  watchers.forEach((watcher) => watcher());
}
function watch(watcher: () => void): () => void {
  watchers.add(watcher);
  return () => watchers.delete(watcher);
}

/** A masked secret with the buttons that reveal, copy and hide it. */
export function SecretValue({ label, reveal }: { label: string; reveal: () => Promise<string> }) {
  const id = useId();
  const [value, setValue] = useState<string>();
  const { busy, problem, run } = useAction();
  const withProof = useProof();
  const isMine = useSyncExternalStore(watch, () => shown === id);
  const isShown = isMine && value !== undefined;

  useEffect(() => {
    if (!isMine) setValue(undefined);
  }, [isMine]);
  useEffect(() => {
    if (!isShown) return;
    const hide = () => show(undefined);
    const timer = setTimeout(hide, SHOWN_MS_MAX);
    document.addEventListener('visibilitychange', hide);
    window.addEventListener('pagehide', hide);
    return () => {
      clearTimeout(timer);
      document.removeEventListener('visibilitychange', hide);
      window.removeEventListener('pagehide', hide);
    };
  }, [isShown]);
  useEffect(() => () => (shown === id ? show(undefined) : undefined), [id]);

  const revealNow = () =>
    run(async () => {
      const secret = await withProof(reveal);
      show(id);
      setValue(secret);
    });
  return (
    <Stack gap={4}>
      <Group gap={8} wrap="wrap">
        {isShown ? (
          <>
            <code className="value" data-secret>
              {value}
            </code>
            <CopyButton text={value} label={`Copy ${label}`} />
            <Button variant="default" size="compact-xs" leftSection={<IconEyeOff size={13} />} onClick={() => show(undefined)} aria-label={`Hide ${label}`}>
              Hide
            </Button>
          </>
        ) : (
          <>
            <span className="value" aria-label="hidden">
              ••••••••••••••••
            </span>
            <Button variant="default" size="compact-xs" leftSection={<IconEye size={13} />} loading={busy} onClick={revealNow} aria-label={`Reveal ${label}`}>
              Reveal
            </Button>
          </>
        )}
      </Group>
      {problem && <Problem>{problem}</Problem>}
    </Stack>
  );
}

/** A secret that was made just now. It stays until whoever made it says that it is kept. */
export function NewSecret({ pairs, onKept, sentence = NEVER_SHARE }: { pairs: [label: string, value: string][]; onKept: () => void; sentence?: string }) {
  return (
    <Stack gap="sm">
      <dl className="rows">
        {pairs.map(([label, value]) => (
          <Row key={label} label={label} value={value} />
        ))}
      </dl>
      <Text size="sm" fw={600}>
        {sentence}
      </Text>
      <Group>
        <Button onClick={onKept}>I have stored it</Button>
      </Group>
    </Stack>
  );
}

function Row({ label, value }: { label: string; value: string }) {
  return (
    <>
      <dt>{label}</dt>
      <dd>
        <Group gap={6} wrap="nowrap" align="flex-start">
          <code className="value" data-secret>
            {value}
          </code>
          <CopyButton text={value} label={`Copy ${label}`} />
        </Group>
      </dd>
    </>
  );
}
