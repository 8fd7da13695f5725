// Where the page begins.
import '@fontsource-variable/inter/wght.css';
import '@mantine/core/styles.css';
import './app.css';

import { MantineProvider } from '@mantine/core';
import { QueryCache, QueryClient, QueryClientProvider } from '@tanstack/react-query';
import { RouterProvider } from '@tanstack/react-router';
import { setNonce } from 'get-nonce';
import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';
import { isSignedOut, Refused } from './api/client';
import { ownAddress } from './pieces/format';
import { ProofProvider } from './pieces/proof';
import { createAppRouter } from './routes';
import { theme, variables } from './theme';

// The server names in each document the word by which style elements are allowed; there is no other way to add one.
const nonce = document.querySelector<HTMLMetaElement>('meta[property="csp-nonce"]')?.nonce ?? '';
setNonce(nonce);

const client: QueryClient = new QueryClient({
  queryCache: new QueryCache({
    // A session that ended while the page was open: whatever was on it belongs to nobody any more.
    onError: (error) => {
      const at = router.state.resolvedLocation;
      if (!isSignedOut(error) || !at?.pathname.startsWith('/app')) return;
      void router.navigate({ to: '/sign-in', search: { next: ownAddress(at.href) } }).then(() => client.clear());
    },
  }),
  defaultOptions: {
    queries: {
      staleTime: 5_000,
      // A refusal stays one; what was not reached is tried again.
      retry: (count, error) => count < 2 && (!(error instanceof Refused) || error.status >= 500 || error.status === 0),
    },
  },
});
const router = createAppRouter(client);

createRoot(document.getElementById('root')!).render(
  <StrictMode>
    <MantineProvider theme={theme} cssVariablesResolver={variables} defaultColorScheme="auto" getStyleNonce={() => nonce}>
      <QueryClientProvider client={client}>
        <ProofProvider>
          <RouterProvider router={router} />
        </ProofProvider>
      </QueryClientProvider>
    </MantineProvider>
  </StrictMode>,
);
