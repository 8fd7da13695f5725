// Doing something: what it looks like meanwhile, and what it says when it did not work.
import { Alert, Button, Group, Modal, Stack, Text } from '@mantine/core';
import { IconAlertTriangle } from '@tabler/icons-react';
import { useState, type FormEvent, type ReactNode } from 'react';
import { sentence } from '../api/client';
import { Abandoned } from './proof';

export function Problem({ children }: { children: ReactNode }) {
  return (
    <Alert role="alert" color="red" variant="light" icon={<IconAlertTriangle size={16} />} py={6} px="sm">
      <Text size="sm">{children}</Text>
    </Alert>
  );
}

export function useAction() {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<string>();
  const run = async (act: () => Promise<unknown>): Promise<boolean> => {
    setBusy(true);
    setProblem(undefined);
    try {
      await act();
      return true;
    } catch (error) {
      if (!(error instanceof Abandoned)) setProblem(sentence(error));
      return false;
    } finally {
      setBusy(false);
    }
  };
  return { busy, problem, run, clear: () => setProblem(undefined) };
}

/** The text of a form's field. */
export function field(fields: FormData, name: string): string {
  const value = fields.get(name);
  return typeof value === 'string' ? value : '';
}

/** A form whose fields stay in the document: what is typed is in no state of the page, and is gone once it was taken. */
export function ActionForm(props: {
  action: (fields: FormData) => Promise<unknown>;
  submit: string;
  color?: string;
  variant?: string;
  /** Says that it was done, where nothing else shows it. */
  doneText?: string;
  disabled?: boolean;
  aside?: ReactNode;
  children: ReactNode;
  label?: string;
}) {
  const { busy, problem, run } = useAction();
  const [isDone, setDone] = useState(false);
  const submit = async (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const form = event.currentTarget;
    setDone(false);
    if (await run(() => props.action(new FormData(form)))) {
      form.querySelectorAll<HTMLInputElement>('input[type=password]').forEach((input) => (input.value = ''));
      setDone(true);
    }
  };
  return (
    <form onSubmit={submit} aria-label={props.label} onChange={() => setDone(false)}>
      <Stack gap="sm">
        {props.children}
        {problem && <Problem>{problem}</Problem>}
        <Group gap="sm">
          <Button type="submit" loading={busy} color={props.color} variant={props.variant} disabled={props.disabled}>
            {props.submit}
          </Button>
          {props.aside}
          {isDone && props.doneText && (
            <Text size="sm" role="status">
              {props.doneText}
            </Text>
          )}
        </Group>
      </Stack>
    </form>
  );
}

/** A button for what takes a question first. */
export function Confirmed(props: {
  label: string;
  title: string;
  about: ReactNode;
  action: (fields: FormData) => Promise<unknown>;
  /** What is to be typed first. */
  children?: ReactNode;
  color?: string;
  variant?: string;
  disabled?: boolean;
  confirm?: string;
  ariaLabel?: string;
}) {
  const [isOpen, setOpen] = useState(false);
  return (
    <>
      <Button
        variant={props.variant ?? 'default'}
        color={props.color}
        disabled={props.disabled}
        onClick={() => setOpen(true)}
        aria-label={props.ariaLabel}
        size="compact-sm"
      >
        {props.label}
      </Button>
      <Modal opened={isOpen} onClose={() => setOpen(false)} title={props.title}>
        <ActionForm
          action={async (fields) => {
            await props.action(fields);
            setOpen(false);
          }}
          submit={props.confirm ?? props.label}
          color="red"
          aside={
            <Button variant="default" onClick={() => setOpen(false)}>
              Cancel
            </Button>
          }
        >
          <Text size="sm">{props.about}</Text>
          {props.children}
        </ActionForm>
      </Modal>
    </>
  );
}
