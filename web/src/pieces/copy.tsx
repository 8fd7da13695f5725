// Values to copy, and code to paste.
import { ActionIcon, Button, Group, Tooltip, VisuallyHidden } from '@mantine/core';
import { IconCheck, IconCopy } from '@tabler/icons-react';
import { useEffect, useState } from 'react';

/** Puts a text on the clipboard, also where a page without TLS may not ask for it. */
async function toClipboard(text: string): Promise<void> {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = document.createElement('textarea');
  area.value = text;
  area.setAttribute('readonly', '');
  area.className = 'skip';
  document.body.append(area);
  area.select();
  const copied = document.execCommand('copy');
  area.remove();
  if (!copied) throw new Error('the browser does not let this page copy: select the text and copy it by hand');
}

function useCopy(text: string) {
  const [state, setState] = useState<'idle' | 'copied' | 'failed'>('idle');
  useEffect(() => {
    if (state === 'idle') return;
    const timer = setTimeout(() => setState('idle'), 1500);
    return () => clearTimeout(timer);
  }, [state]);
  const copy = () =>
    toClipboard(text).then(
      () => setState('copied'),
      () => setState('failed'),
    );
  return { state, copy };
}

export function CopyButton({ text, label }: { text: string; label: string }) {
  const { state, copy } = useCopy(text);
  return (
    <>
      <Tooltip label={state === 'failed' ? 'Select it and copy by hand' : state === 'copied' ? 'Copied' : label} openDelay={300}>
        <ActionIcon variant="subtle" color="gray" size="sm" aria-label={label} onClick={copy}>
          {state === 'copied' ? <IconCheck size={15} /> : <IconCopy size={15} />}
        </ActionIcon>
      </Tooltip>
      <VisuallyHidden role="status">{state === 'copied' ? 'Copied' : ''}</VisuallyHidden>
    </>
  );
}

/** A value that may be seen, with a button that copies it. */
export function Copyable({ value, label }: { value: string; label: string }) {
  return (
    <Group gap={6} wrap="nowrap" align="flex-start">
      <code className="value">{value}</code>
      <CopyButton text={value} label={`Copy ${label}`} />
    </Group>
  );
}

export function Code({ text, label }: { text: string; label: string }) {
  const { state, copy } = useCopy(text);
  return (
    <div className="code">
      <Button className="copy" variant="default" size="compact-xs" onClick={copy} aria-label={`Copy ${label}`}>
        {state === 'copied' ? 'Copied' : state === 'failed' ? 'Copy by hand' : 'Copy'}
      </Button>
      {/* Long lines scroll, with the keyboard too. */}
      <pre tabIndex={0} role="region" aria-label={label}>
        <code>{text}</code>
      </pre>
    </div>
  );
}
