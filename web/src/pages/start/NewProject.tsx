// A new project: a name and a time zone, then its token, key and secret.
import { TextInput } from '@mantine/core';
import { useQueryClient } from '@tanstack/react-query';
import { useNavigate } from '@tanstack/react-router';
import { useState } from 'react';
import { api, done, type Schemas } from '../../api/client';
import { ActionForm, field } from '../../pieces/action';
import { useProof } from '../../pieces/proof';
import { NewSecret } from '../../pieces/secret';
import { PageTitle, Section } from '../../pieces/text';
import { ZoneList } from '../project/Overview';

export function NewProject() {
  const [made, setMade] = useState<Schemas['NewProject']>();
  const withProof = useProof();
  const client = useQueryClient();
  const navigate = useNavigate();
  const create = async (fields: FormData) => {
    const body = { name: field(fields, 'name').trim(), timezone: field(fields, 'timezone').trim() };
    setMade(await withProof(() => done(api.POST('/projects', { body }))));
    await client.invalidateQueries({ queryKey: ['projects'] });
  };
  return (
    <>
      <PageTitle>Create project</PageTitle>
      {made ? (
        <Section title="Its credentials" about="The token sends and is public. The API key and the API secret read: they stand under Management, too.">
          <NewSecret
            pairs={[
              ['Project token', made.token],
              ['API key', made.api_key],
              ['API secret', made.api_secret],
            ]}
            onKept={() => navigate({ to: '/app/projects/$project/start', params: { project: String(made.project_id) } })}
          />
        </Section>
      ) : (
        <Section title="Project" about="You become its owner. Operators and owners of a project create further ones.">
          <ActionForm action={create} submit="Create project" label="Create project">
            <TextInput name="name" label="Name" required maxLength={200} autoComplete="off" maw="26rem" />
            <TextInput
              name="timezone"
              label="Time zone"
              description="Days of reports begin and end in it."
              list="zones"
              defaultValue={Intl.DateTimeFormat().resolvedOptions().timeZone || 'UTC'}
              required
              autoComplete="off"
              maw="26rem"
            />
            <ZoneList />
          </ActionForm>
        </Section>
      )}
    </>
  );
}
