// The operators' inbox: tickets of every project, and their answers.
import { Group, NumberInput, Stack, Textarea } from '@mantine/core';
import { useQuery, useQueryClient } from '@tanstack/react-query';
import { api, done, type Schemas } from '../../api/client';
import { accountsQuery, allTicketsQuery } from '../../api/queries';
import { ActionForm, Confirmed, field } from '../../pieces/action';
import type { People } from '../../pieces/format';
import { useProof } from '../../pieces/proof';
import { Empty, Loaded } from '../../pieces/states';
import { Name, PageTitle } from '../../pieces/text';
import { TicketCard } from './Ticket';

export function Inbox() {
  const tickets = useQuery(allTicketsQuery);
  const accounts = useQuery(accountsQuery);
  return (
    <>
      <PageTitle>Support inbox</PageTitle>
      <Stack gap="md">
        <Loaded query={tickets}>
          {(all) => {
            const sorted = [...all].sort((a, b) => Number(b.state === 'open') - Number(a.state === 'open') || b.ticket - a.ticket);
            return sorted.length === 0 ? <Empty>No project asked for anything.</Empty> : sorted.map((ticket) => <Row key={ticket.ticket} ticket={ticket} people={accounts.data ?? []} />);
          }}
        </Loaded>
      </Stack>
    </>
  );
}

function Row({ ticket, people }: { ticket: Schemas['Ticket']; people: People }) {
  const client = useQueryClient();
  const withProof = useProof();
  const path = { ticket: ticket.ticket };
  const after = () => client.invalidateQueries({ queryKey: allTicketsQuery.queryKey });
  const answer = async (fields: FormData) => {
    await done(api.POST('/tickets/{ticket}/messages', { params: { path }, body: { text: field(fields, 'text') } }));
    await after();
  };
  const approve = async (fields: FormData) => {
    const body = { alias_days: Number(field(fields, 'alias_days')), text: field(fields, 'text') };
    await withProof(() => done(api.POST('/tickets/{ticket}/approve', { params: { path }, body })));
    await after();
  };
  const decline = async () => {
    await withProof(() => done(api.POST('/tickets/{ticket}/decline', { params: { path }, body: { text: '' } })));
    await after();
  };
  return (
    <TicketCard
      ticket={ticket}
      people={people}
      title={
        <>
          Ticket {ticket.ticket}: reset the project token of <Name>{ticket.project_name}</Name>
        </>
      }
    >
      {ticket.state === 'open' && (
        <>
          <ActionForm key={ticket.messages.length} action={answer} submit="Send" variant="default" label={`Answer ticket ${ticket.ticket}`}>
            <Textarea name="text" label="Message" required autosize minRows={2} maw="36rem" />
          </ActionForm>
          <ActionForm
            action={approve}
            submit="Give another token"
            label={`Decide ticket ${ticket.ticket}`}
            aside={<Confirmed label="Decline" title="Decline the ticket" about="The project token stays as it is. Say why in a message before." action={decline} />}
          >
            <Group align="flex-start">
              <NumberInput name="alias_days" label="Days that the old token takes events on" min={0} max={90} defaultValue={30} required w="16rem" />
            </Group>
          </ActionForm>
        </>
      )}
    </TicketCard>
  );
}
