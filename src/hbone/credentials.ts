import type { WorkloadCertificate } from '../identity/index.ts';
import { HboneError } from './hbone-error.ts';

/**
 * What a workload shows to its peers: one certificate, or a function that gives the one in force (`() => store.get(identity)`
 * of a certificate store). It is asked for every new tunnel, so that a rotation reaches new tunnels and leaves live ones alone
 * (facts section 1.11). It must always give the same identity, and the same object until the certificate changes.
 */
export type Credentials =
  | WorkloadCertificate
  | ((signal: AbortSignal) => WorkloadCertificate | Promise<WorkloadCertificate>);

/**
 * The certificate to be used now.
 *
 * @throws {HboneError} `ERR_HBONE_CREDENTIALS`: the function failed (`cause`), or the certificate came without its key
 */
export async function currentCertificate(
  op: string,
  credentials: Credentials,
  signal: AbortSignal,
): Promise<WorkloadCertificate> {
  let certificate: WorkloadCertificate;
  try {
    certificate = typeof credentials === 'function' ? await credentials(signal) : credentials;
  } catch (cause) {
    throw new HboneError({ code: 'ERR_HBONE_CREDENTIALS', op, message: 'no certificate to be had', cause });
  }
  if (certificate.key === undefined) {
    const message = `the certificate of ${certificate.identity} came without its key`;
    throw new HboneError({ code: 'ERR_HBONE_CREDENTIALS', op, message });
  }
  return certificate;
}
