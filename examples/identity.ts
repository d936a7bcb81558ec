// An embedded CA, two workloads, the decision about a peer, and a renewal: who is believed, who is not, and why.
// Needs no root and no network.
import {
  CertificateAuthority,
  createCertificateStore,
  createCsr,
  formatSpiffeId,
  IdentityError,
  ManualClock,
  PrivateKey,
  verifyChain,
} from '../src/identity/index.ts';

const trustDomain = 'cluster.local';
const clock = new ManualClock();
const root = await CertificateAuthority.create({ trustDomain, clock });
const nodeA = await root.createIntermediate({ name: 'node-a' });
const sleep = formatSpiffeId({ trustDomain, namespace: 'default', serviceAccount: 'sleep' });
const httpbin = formatSpiffeId({ trustDomain, namespace: 'default', serviceAccount: 'httpbin' });

const key = await PrivateKey.generate();
const byRequest = await nodeA.issue({ csr: createCsr({ identity: httpbin, key }) });
console.log('issued for a CSR:', byRequest.identity, 'until', byRequest.notAfter.toISOString());
console.log('a key in a log:  ', JSON.stringify({ key }));

await using store = createCertificateStore({ clock, issue: (identity, signal) => nodeA.issue({ identity, signal }) });
store.onRotate(({ identity, previous }) => console.log(previous ? 'renewed:         ' : 'issued:          ', identity));
const { chainPem } = await store.get(sleep);

const peer = { chain: chainPem, roots: root.rootsPem, now: clock.now() };
const inbound = verifyChain({ ...peer, purpose: 'client', expected: { trustDomain } });
console.log('inbound accepts: ', inbound.namespace, inbound.serviceAccount);
try {
  verifyChain({ ...peer, purpose: 'server', expected: { oneOf: [httpbin] } });
} catch (error) {
  if (error instanceof IdentityError) console.log('outbound refuses:', error.code);
}

const rotated = new Promise((resolve) => store.onRotate(resolve));
await clock.advance(12 * 3_600_000);
await rotated;
