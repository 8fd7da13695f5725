// Who calls: from where, with what, which endpoint, when last.
import { Table, Text } from '@mantine/core';
import type { Schemas } from '../../api/client';
import { figure } from '../../pieces/format';
import { When } from '../../pieces/text';
import { Wide } from '../../pieces/wide';

export function Callers({ callers, label }: { callers: Schemas['Caller'][]; label: string }) {
  return (
    <Wide minWidth={640} label={label}>
      <Table aria-label={label}>
        <Table.Thead>
          <Table.Tr>
            <Table.Th>Who</Table.Th>
            <Table.Th>From where</Table.Th>
            <Table.Th>Endpoint</Table.Th>
            <Table.Th ta="right">Calls</Table.Th>
            <Table.Th>Last seen</Table.Th>
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {callers.map((caller) => (
            <Table.Tr key={[caller.credential, caller.outcome, caller.scheme, caller.endpoint, caller.address, caller.user_agent].join('\n')}>
              <Table.Td>
                <Text size="sm" className="name">
                  {caller.user_agent || 'no User-Agent'}
                </Text>
                <Text size="xs" c="dimmed">
                  {caller.credential}, {caller.scheme}
                </Text>
              </Table.Td>
              <Table.Td className="value whole">{caller.address}</Table.Td>
              <Table.Td className="value whole">{caller.endpoint}</Table.Td>
              <Table.Td ta="right" className="figures">
                {figure(caller.count)}
              </Table.Td>
              <Table.Td className="whole">
                <When at={caller.last_at} ago />
              </Table.Td>
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
    </Wide>
  );
}
