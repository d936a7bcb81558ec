import { describe, expect, it } from 'vitest';
import { CertificateAuthority, formatSpiffeId } from '../../src/identity/index.ts';
import { TlsContexts } from '../../src/ztunnel/tls-contexts.ts';

const authority = await CertificateAuthority.create({ trustDomain: 'cluster.local' });
const api = formatSpiffeId({ trustDomain: 'cluster.local', namespace: 'default', serviceAccount: 'api' });

async function credentials() {
  const { chainPem, rootsPem, key } = await authority.issue({ identity: api });
  return { chainPem, rootsPem, keyPem: key!.exportPem() };
}

describe('TlsContexts', () => {
  it('gives the latest context of an identity, and closes the one before it', async () => {
    const contexts = new TlsContexts();
    contexts.set(api, await credentials());
    const first = contexts.get(api)!;
    contexts.set(api, await credentials());
    const second = contexts.get(api)!;
    expect(second).not.toBe(first);
    expect(() => first.address).toThrow(expect.objectContaining({ code: 'ERR_ENGINE_CLOSED' }));
    expect(second.address).not.toBe(0);
    contexts.close();
  });

  it('refuses bad credentials, and keeps the good ones', async () => {
    const contexts = new TlsContexts();
    contexts.set(api, await credentials());
    const good = contexts.get(api)!;
    const { keyPem } = await credentials();
    const mixed = { ...(await credentials()), keyPem };
    expect(() => contexts.set(api, mixed)).toThrow(expect.objectContaining({ code: 'ERR_ENGINE_CREDENTIALS' }));
    expect(contexts.get(api)).toBe(good);
    expect(good.address).not.toBe(0);
    contexts.close();
  });

  it('forgets one, and all', async () => {
    const contexts = new TlsContexts();
    contexts.set(api, await credentials());
    const context = contexts.get(api)!;
    contexts.delete(api);
    contexts.delete(api);
    expect(contexts.get(api)).toBeUndefined();
    expect(() => context.address).toThrow();
    contexts.set(api, await credentials());
    contexts.close();
    expect(contexts.get(api)).toBeUndefined();
  });
});
