import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';
import { leafExtensions } from '../../src/identity/certificate-writer.ts';
import type { SpiffeId, WorkloadCertificate } from '../../src/identity/index.ts';
import { encodePem } from '../../src/identity/pem.ts';
import { altNames, craft, craftCa, type Made } from '../identity/craft.ts';

/** Workloads whose certificates are in order, and some whose are not. */
export type Workload = 'client' | 'server' | 'waypoint' | 'foreign' | 'nospiffe' | 'expired' | 'rogue';

/** To be refused by anybody. */
export const BAD: readonly Workload[] = ['foreign', 'nospiffe', 'expired', 'rogue'];

const HOUR_MS = 3_600_000;
const window = { notBeforeMs: Date.now() - HOUR_MS, notAfterMs: Date.now() + HOUR_MS };

const ca = await craftCa('ca', undefined, 3, window);
const rogueCa = await craftCa('rogue', undefined, 3, window);
const rootsPem = pemOf(ca);

export const idOf = (name: string): SpiffeId => `spiffe://cluster.local/ns/default/sa/${name}` as SpiffeId;

const foreignId = 'spiffe://other.local/ns/default/sa/client' as SpiffeId;
const made: Record<Workload, Made> = {
  client: await leaf(idOf('client')),
  server: await leaf(idOf('server')),
  waypoint: await leaf(idOf('waypoint')),
  foreign: await leaf(foreignId),
  nospiffe: await craft({ issuer: ca, ...window, extensions: () => [altNames([2, 'client.example'])] }),
  expired: await leaf(idOf('client'), ca, { ...window, notAfterMs: Date.now() - 1000 }),
  rogue: await leaf(idOf('client'), rogueCa),
};

/** The certificate of a workload for an end of our own. */
export function certificateOf(name: Workload): WorkloadCertificate {
  const { certificate, key } = made[name];
  const identity = name === 'foreign' ? foreignId : idOf(name);
  const [notBefore, notAfter] = [new Date(certificate.notBeforeMs), new Date(certificate.notAfterMs)];
  return { identity, chainPem: pemOf(made[name]), rootsPem, key, notBefore, notAfter };
}

const folder = mkdtempSync(join(tmpdir(), 'ambient-peers-'));
// Not at the exit of the process, which vitest's workers never come to.
afterAll(() => rmSync(folder, { recursive: true, force: true }));
writeFileSync(join(folder, 'ca.pem'), rootsPem);
for (const [name, one] of Object.entries(made)) {
  writeFileSync(join(folder, `${name}.pem`), pemOf(one));
  writeFileSync(join(folder, `${name}-key.pem`), one.key.exportPem(), { mode: 0o600 });
}

/** The same as files, as Envoy's templates name them. */
export function envoyFiles(name: Workload): { CA_FILE: string; CERT_FILE: string; KEY_FILE: string } {
  return { CA_FILE: file('ca'), CERT_FILE: file(name), KEY_FILE: file(`${name}-key`) };
}

/** The same as hbonepeer's flags. */
export function goFlags(name: Workload): string[] {
  return ['-ca', file('ca'), '-cert', file(name), '-key', file(`${name}-key`)];
}

function file(name: string): string {
  return join(folder, `${name}.pem`);
}

function leaf(identity: SpiffeId, issuer: Made = ca, life: typeof window = window): Promise<Made> {
  return craft({ issuer, ...life, extensions: (_own, issuers) => leafExtensions(identity, issuers) });
}

function pemOf({ certificate }: Made): string {
  return encodePem('CERTIFICATE', certificate.der);
}
