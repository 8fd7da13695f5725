// Get started: paste, watch the first event arrive, read it back.
import { Stack, Tabs, Text } from '@mantine/core';
import { useNavigate, useSearch } from '@tanstack/react-router';
import { useState } from 'react';
import { Code, Copyable } from '../../pieces/copy';
import { either } from '../../pieces/format';
import { PageTitle, Section, TextLink } from '../../pieces/text';
import { TOKEN_IS_PUBLIC } from '../project/Overview';
import { useProject } from '../project/useProject';
import { Arriving } from './Arriving';
import { reading, sending, type Snippet } from './snippets';

export function GetStarted() {
  const { project, id, isAdmin } = useProject();
  const { sdk } = useSearch({ strict: false });
  const navigate = useNavigate();
  const origin = window.location.origin;
  const key = project.keys.find((key) => key.legacy !== 'off' && !key.retires_at)?.api_key;
  const management = { to: '/app/projects/$project/settings/$tab', params: { project: String(id), tab: 'management' } } as const;
  return (
    <>
      <PageTitle of={project.name}>Get started</PageTitle>
      <div className="split">
        <Stack gap="md">
          <Section title="Send" about={TOKEN_IS_PUBLIC}>
            <Stack gap="sm">
              <dl className="rows">
                <dt>Project token</dt>
                <dd>
                  <Copyable value={project.token} label="project token" />
                </dd>
                <dt>Server</dt>
                <dd>
                  <Copyable value={origin} label="server address" />
                </dd>
              </dl>
              <Snippets
                snippets={sending({ origin, token: project.token })}
                turned={sdk}
                onTurn={(sdk) => navigate({ to: '/app/projects/$project/start', params: { project: String(id) }, search: { sdk }, replace: true })}
              />
            </Stack>
          </Section>
          <Section title="Read it back" about="Signed with the API key and the API secret; nobody reads with the token.">
            <Stack gap="sm">
              {key ? (
                <Text size="sm">
                  The examples hold your API key; they take the API secret from the environment. It stands under <TextLink {...management}>Management</TextLink>.
                </Text>
              ) : (
                <Text size="sm">
                  {isAdmin ? (
                    <>No live key takes the legacy signature: change that, or make another, under Access keys.</>
                  ) : (
                    <>Put the API key in the place of API_KEY: ask {either(project.owners)}.</>
                  )}
                </Text>
              )}
              <Snippets snippets={reading({ origin, apiKey: key ?? 'API_KEY', day: new Date().toISOString().slice(0, 10) })} />
            </Stack>
          </Section>
        </Stack>
        <Arriving />
      </div>
    </>
  );
}

function Snippets({ snippets, turned, onTurn }: { snippets: Snippet[]; turned?: string; onTurn?: (id: string) => void }) {
  const [own, setOwn] = useState(snippets[0]!.id);
  const asked = onTurn ? turned : own;
  const shown = snippets.find((snippet) => snippet.id === asked) ?? snippets[0]!;
  return (
    <Tabs variant="pills" keepMounted={false} value={shown.id} onChange={(id) => id && (onTurn ?? setOwn)(id)}>
      <Tabs.List>
        {snippets.map((snippet) => (
          <Tabs.Tab key={snippet.id} value={snippet.id} px={8} py={4} fz="sm">
            {snippet.name}
          </Tabs.Tab>
        ))}
      </Tabs.List>
      {snippets.map((snippet) => (
        <Tabs.Panel key={snippet.id} value={snippet.id} pt="sm">
          {snippet.about && (
            <Text size="sm" c="dimmed" mb={6}>
              {snippet.about}
            </Text>
          )}
          <Code text={snippet.text} label={`Example for ${snippet.name}`} />
        </Tabs.Panel>
      ))}
    </Tabs>
  );
}
