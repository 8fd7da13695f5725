// Proving again who is there. What makes or shows a secret takes a password, or a code where there is a second factor, of the last five
// minutes; whoever does such a thing is asked when the server says so, and not before.
import { Button, Group, Modal, PasswordInput, Stack, Text, TextInput } from '@mantine/core';
import { useQueryClient } from '@tanstack/react-query';
import { createContext, useCallback, useContext, useRef, useState, type FormEvent, type ReactNode } from 'react';
import { api, done, Refused, sentence } from '../api/client';
import { sessionQuery } from '../api/queries';

/** Whoever was asked for a proof went away: nothing was done, and nothing is to be said about it. */
export class Abandoned extends Error {}

type Waiting = { resolve: () => void; reject: (error: Error) => void; hasCode: boolean };
type WithProof = <T>(act: () => Promise<T>) => Promise<T>;

const Context = createContext<WithProof>((act) => act());

/** Runs something that may need a fresh proof. */
export function useProof(): WithProof {
  return useContext(Context);
}

export function ProofProvider({ children }: { children: ReactNode }) {
  const client = useQueryClient();
  const [waiting, setWaiting] = useState<Waiting>();
  const [problem, setProblem] = useState<string>();
  const [busy, setBusy] = useState(false);
  const asked = useRef<HTMLElement | null>(null);

  const withProof = useCallback<WithProof>(
    async (act) => {
      try {
        return await act();
      } catch (error) {
        if (!(error instanceof Refused) || error.code !== 'fresh_proof_needed') throw error;
        const session = await client.ensureQueryData(sessionQuery);
        asked.current = document.activeElement as HTMLElement | null;
        await new Promise<void>((resolve, reject) => {
          setProblem(undefined);
          setWaiting({ resolve, reject, hasCode: session.account.has_totp });
        });
        return await act();
      }
    },
    [client],
  );

  const leave = () => {
    waiting?.reject(new Abandoned());
    setWaiting(undefined);
  };
  const prove = async (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const typed = String(new FormData(event.currentTarget).get('proof') ?? '');
    setBusy(true);
    setProblem(undefined);
    try {
      await done(api.POST('/session/proof', { body: waiting?.hasCode ? { code: typed.trim() } : { password: typed } }));
      waiting?.resolve();
      setWaiting(undefined);
      asked.current?.focus();
    } catch (error) {
      setProblem(sentence(error));
    } finally {
      setBusy(false);
    }
  };

  return (
    <Context.Provider value={withProof}>
      {children}
      <Modal opened={waiting !== undefined} onClose={leave} title="Prove that it is you" zIndex={400}>
        <form onSubmit={prove}>
          <Stack gap="sm">
            <Text size="sm" c="dimmed">
              What comes next shows or changes a secret, or who may do what. The proof holds for five minutes.
            </Text>
            {waiting?.hasCode ? (
              <TextInput name="proof" label="Code of the authenticator app" description="Or one of your recovery codes." autoComplete="one-time-code" required data-autofocus error={problem} />
            ) : (
              <PasswordInput name="proof" label="Password" autoComplete="current-password" required data-autofocus error={problem} />
            )}
            <Group gap="sm">
              <Button type="submit" loading={busy}>
                Continue
              </Button>
              <Button variant="default" onClick={leave}>
                Cancel
              </Button>
            </Group>
          </Stack>
        </form>
      </Modal>
    </Context.Provider>
  );
}
