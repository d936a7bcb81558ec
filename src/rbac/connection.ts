import { type IpAddress, tryParseIp } from '../ip/index.ts';
import { InvalidConnectionError } from './errors.ts';

/** The verified identity of the source, the parts of `spiffe://<trustDomain>/ns/<namespace>/sa/<serviceAccount>`. */
export interface ConnectionIdentity {
  readonly trustDomain: string;
  readonly namespace: string;
  readonly serviceAccount: string;
}

/**
 * What a policy can see of a connection (facts section 3.7). `sourceIp` is the TCP peer, of the tunnel where there is
 * one; `destinationPort` is the application's, never 15008; `identity` comes from the peer's certificate and from
 * nothing else, and is left out for plaintext.
 */
export interface Connection {
  readonly sourceIp: string;
  readonly destinationIp: string;
  readonly destinationPort: number;
  readonly identity?: ConnectionIdentity | undefined;
}

/** A connection parsed once, in the form that matches compare with. */
export interface PreparedConnection {
  readonly source: IpAddress;
  readonly destination: IpAddress;
  readonly destinationPort: number;
  readonly hasIdentity: boolean;
  /** The SPIFFE id without `spiffe://`; `''` without identity. */
  readonly principal: string;
  /** `''` without identity. */
  readonly namespace: string;
  readonly serviceAccount: string;
}

/** @throws {@link InvalidConnectionError} ERR_RBAC_CONNECTION naming the field */
export function prepareConnection(connection: Connection): PreparedConnection {
  const { destinationPort, identity } = connection;
  if (!Number.isInteger(destinationPort) || destinationPort < 0 || destinationPort > 65535) {
    throw invalid('destinationPort', 'expected an integer from 0 to 65535');
  }
  if (identity === undefined) {
    return {
      source: address(connection.sourceIp, 'sourceIp'),
      destination: address(connection.destinationIp, 'destinationIp'),
      destinationPort,
      hasIdentity: false,
      principal: '',
      namespace: '',
      serviceAccount: '',
    };
  }
  const { trustDomain, namespace, serviceAccount } = identity;
  if (typeof trustDomain !== 'string') throw invalid('identity.trustDomain', 'expected a string');
  if (typeof namespace !== 'string') throw invalid('identity.namespace', 'expected a string');
  if (typeof serviceAccount !== 'string') throw invalid('identity.serviceAccount', 'expected a string');
  return {
    source: address(connection.sourceIp, 'sourceIp'),
    destination: address(connection.destinationIp, 'destinationIp'),
    destinationPort,
    hasIdentity: true,
    principal: `${trustDomain}/ns/${namespace}/sa/${serviceAccount}`,
    namespace,
    serviceAccount,
  };
}

function address(text: unknown, field: string): IpAddress {
  const ip = typeof text === 'string' ? tryParseIp(text) : undefined;
  if (ip === undefined) throw invalid(field, 'expected an IPv4 or IPv6 address');
  return ip;
}

function invalid(field: string, message: string): InvalidConnectionError {
  return new InvalidConnectionError({ code: 'ERR_RBAC_CONNECTION', op: 'rbac.evaluate', field, message });
}
