// Support: another project token, by a ticket that an operator answers (F10).
import { Button, Group, Stack, Text, Textarea } from '@mantine/core';
import { useQuery, useQueryClient } from '@tanstack/react-query';
import { useState } from 'react';
import { api, done } from '../../api/client';
import { membersQuery, ticketsQuery } from '../../api/queries';
import { ActionForm, field } from '../../pieces/action';
import { Copyable } from '../../pieces/copy';
import { either } from '../../pieces/format';
import { Empty, Loaded } from '../../pieces/states';
import { PageTitle, Section, TextLink } from '../../pieces/text';
import { useProject } from '../project/useProject';
import { TicketCard } from './Ticket';

export function Support() {
  const { project, isOwner } = useProject();
  return (
    <>
      <PageTitle of={project.name}>Support</PageTitle>
      <Stack gap="md">
        <ResetToken />
        {isOwner && <Tickets />}
      </Stack>
    </>
  );
}

function ResetToken() {
  const { project, id, isOwner } = useProject();
  const [isOpen, setOpen] = useState(false);
  const client = useQueryClient();
  const open = async (fields: FormData) => {
    await done(api.POST('/projects/{project}/tickets', { params: { path: { project: id } }, body: { reason: field(fields, 'reason') } }));
    await client.invalidateQueries({ queryKey: ticketsQuery(id).queryKey });
    setOpen(false);
  };
  return (
    <Section
      title="Project token"
      about="Reset project token goes through a support ticket; an operator answers it. The token stands in apps that cannot be changed at once, so the old one goes on taking events for a while."
    >
      <Stack gap="sm" align="stretch">
        <Copyable value={project.token} label="project token" />
        {isOpen ? (
          <ActionForm
            action={open}
            submit="Send the ticket"
            label="Reset project token"
            aside={
              <Button variant="default" onClick={() => setOpen(false)}>
                Cancel
              </Button>
            }
          >
            <Textarea name="reason" label="Why the token has to be reset" description="An operator reads it. Put no secret in." required autosize minRows={3} maw="36rem" data-autofocus autoFocus />
          </ActionForm>
        ) : (
          <Group>
            <Button variant="default" disabled={!isOwner} onClick={() => setOpen(true)}>
              Reset project token
            </Button>
          </Group>
        )}
        {!isOwner && <Text size="sm">Only the Project Owner can ask for another token: ask {either(project.owners)}.</Text>}
        <Text size="sm" c="dimmed">
          API key and API secret are reset by the owner under{' '}
          <TextLink to="/app/projects/$project/settings/$tab" params={{ project: String(id), tab: 'management' }}>Management</TextLink>; that never touches the token.
        </Text>
      </Stack>
    </Section>
  );
}

function Tickets() {
  const { id } = useProject();
  const client = useQueryClient();
  const tickets = useQuery(ticketsQuery(id));
  const members = useQuery(membersQuery(id));
  const say = async (ticket: number, text: string) => {
    await done(api.POST('/projects/{project}/tickets/{ticket}/messages', { params: { path: { project: id, ticket } }, body: { text } }));
    await client.invalidateQueries({ queryKey: ticketsQuery(id).queryKey });
  };
  return (
    <Loaded query={tickets}>
      {(all) =>
        all.length === 0 ? (
          <Empty>No ticket was opened for this project.</Empty>
        ) : (
          <>
            {all.map((ticket) => (
              <TicketCard key={ticket.ticket} ticket={ticket} people={members.data ?? []} title={`Ticket ${ticket.ticket}: reset project token`}>
                {ticket.state === 'open' && (
                  <ActionForm key={ticket.messages.length} action={(fields) => say(ticket.ticket, field(fields, 'text'))} submit="Send" label={`Say something in ticket ${ticket.ticket}`}>
                    <Textarea name="text" label="Message" required autosize minRows={2} maw="36rem" />
                  </ActionForm>
                )}
              </TicketCard>
            ))}
          </>
        )
      }
    </Loaded>
  );
}
