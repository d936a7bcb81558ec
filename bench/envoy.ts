import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { CertificateAuthority, formatSpiffeId } from '../src/identity/index.ts';
import { NAMESPACE, POLICIES, TRUST_DOMAIN } from './mesh-file.ts';
import type { PeerSite, ProxyCommand } from './peers.ts';
import { INBOUND_PORT, OUTBOUND_PORT, POD_ADDRESSES, PODS, type PodName, PROXY_MARK } from './topology.ts';

const SOL_SOCKET = 1;
const SO_MARK = 36;
/** Above what any row opens: Envoy's own defaults stop at 1,024. */
const MAX_CONNECTIONS = 100_000;

interface PemPaths {
  readonly chain: string;
  readonly key: string;
  readonly roots: string;
}

/**
 * Envoy as both ends of HBONE, in the form that waypoints have it: TCP in, CONNECT over mTLS out; and back. It has no registry: every
 * pod's address is taken for a pod of the mesh, and any identity of the namespace for the one that should answer.
 */
export async function prepareEnvoy(site: PeerSite, program: string, signal: AbortSignal): Promise<ProxyCommand> {
  const authority = await CertificateAuthority.create({ trustDomain: TRUST_DOMAIN, signal });
  const commands = new Map<PodName, string>();
  for (const { name } of PODS) {
    const identity = formatSpiffeId({ trustDomain: TRUST_DOMAIN, namespace: NAMESPACE, serviceAccount: name });
    const { chainPem, rootsPem, key } = await authority.issue({ identity, signal });
    const write = (file: string, text: string) => {
      const path = join(site.directory, `${name}-${file}`);
      writeFileSync(path, text, { mode: 0o600 });
      return path;
    };
    const pems = {
      chain: write('chain.pem', chainPem),
      key: write('key.pem', key!.exportPem()),
      roots: write('roots.pem', rootsPem),
    };
    commands.set(name, write('envoy.json', JSON.stringify(configuration(pems), null, 1)));
  }
  return (pod) => ({
    program,
    args: ['-c', commands.get(pod)!, '--concurrency', '2', '--disable-hot-restart', '-l', 'warn'],
    namespace: site.lab.namespace(pod),
  });
}

function configuration(pems: PemPaths): object {
  return {
    static_resources: {
      listeners: [outboundListener(), inboundListener(pems)],
      clusters: [
        {
          ...originalDestination('hbone', { upstream_port_override: INBOUND_PORT }),
          typed_extension_protocol_options: {
            'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': typed('upstreams.http.v3.HttpProtocolOptions', {
              explicit_http_config: { http2_protocol_options: http2(100) },
            }),
          },
          transport_socket: tls('UpstreamTlsContext', pems, {}),
        },
        originalDestination('passthrough', {}),
        originalDestination('authority', { use_http_header: true, http_header_name: ':authority' }),
      ],
    },
  };
}

function outboundListener(): object {
  const tunnel = {
    stat_prefix: 'outbound',
    cluster: 'hbone',
    idle_timeout: '0s',
    tunneling_config: { hostname: '%DOWNSTREAM_LOCAL_ADDRESS%' },
    access_log: accessLog('%DOWNSTREAM_REMOTE_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %UPSTREAM_PEER_URI_SAN%'),
  };
  const plain = {
    stat_prefix: 'passthrough',
    cluster: 'passthrough',
    idle_timeout: '0s',
    access_log: accessLog('%DOWNSTREAM_REMOTE_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS%'),
  };
  const [address_prefix, prefix_len] = POD_ADDRESSES.split('/');
  return {
    ...listener('outbound', OUTBOUND_PORT),
    listener_filters: [
      {
        name: 'envoy.filters.listener.original_dst',
        typed_config: typed('filters.listener.original_dst.v3.OriginalDst', {}),
      },
    ],
    filter_chains: [
      {
        filter_chain_match: { prefix_ranges: [{ address_prefix, prefix_len: Number(prefix_len) }] },
        filters: [tcpProxy(tunnel)],
      },
    ],
    default_filter_chain: { filters: [tcpProxy(plain)] },
  };
}

function inboundListener(pems: PemPaths): object {
  const connect = [{ upgrade_type: 'CONNECT', connect_config: {} }];
  const manager = {
    stat_prefix: 'inbound',
    codec_type: 'HTTP2',
    stream_idle_timeout: '0s',
    upgrade_configs: [{ upgrade_type: 'CONNECT' }],
    http2_protocol_options: http2(200),
    route_config: {
      virtual_hosts: [
        {
          name: 'any',
          domains: ['*'],
          routes: [
            {
              match: { connect_matcher: {} },
              route: { cluster: 'authority', timeout: '0s', upgrade_configs: connect },
            },
          ],
        },
      ],
    },
    http_filters: [
      policyFilter('DENY'),
      policyFilter('ALLOW'),
      { name: 'envoy.filters.http.router', typed_config: typed('filters.http.router.v3.Router', {}) },
    ],
    access_log: accessLog('%DOWNSTREAM_PEER_URI_SAN% %REQ(:AUTHORITY)% %RESPONSE_CODE%'),
  };
  return {
    ...listener('inbound', INBOUND_PORT),
    filter_chains: [
      {
        transport_socket: tls('DownstreamTlsContext', pems, { require_client_certificate: true }),
        filters: [
          {
            name: 'envoy.filters.network.http_connection_manager',
            typed_config: typed('filters.network.http_connection_manager.v3.HttpConnectionManager', manager),
          },
        ],
      },
    ],
  };
}

function listener(name: string, port_value: number): object {
  return { name, address: { socket_address: { address: '0.0.0.0', port_value } }, tcp_backlog_size: 4096 };
}

function tcpProxy(config: object): object {
  return {
    name: 'envoy.filters.network.tcp_proxy',
    typed_config: typed('filters.network.tcp_proxy.v3.TcpProxy', config),
  };
}

/** The five that deny, or the five that allow, each by the principal and the port. */
function policyFilter(action: 'DENY' | 'ALLOW'): object {
  const policies = POLICIES.filter((policy) => policy.action.toUpperCase() === action).map(({ name, principal }) => [
    name,
    {
      permissions: [{ any: true }],
      principals: [{ authenticated: { principal_name: { exact: `spiffe://${principal}` } } }],
    },
  ]);
  return {
    name: 'envoy.filters.http.rbac',
    typed_config: typed('filters.http.rbac.v3.RBAC', { rules: { action, policies: Object.fromEntries(policies) } }),
  };
}

function originalDestination(name: string, original_dst_lb_config: object): object {
  const limit = {
    max_connections: MAX_CONNECTIONS,
    max_pending_requests: MAX_CONNECTIONS,
    max_requests: MAX_CONNECTIONS,
  };
  return {
    name,
    type: 'ORIGINAL_DST',
    lb_policy: 'CLUSTER_PROVIDED',
    connect_timeout: '10s',
    original_dst_lb_config,
    circuit_breakers: { thresholds: [limit] },
    upstream_bind_config: {
      socket_options: [{ level: SOL_SOCKET, name: SO_MARK, int_value: PROXY_MARK, state: 'STATE_PREBIND' }],
    },
  };
}

function tls(kind: 'UpstreamTlsContext' | 'DownstreamTlsContext', pems: PemPaths, more: object): object {
  const version = 'TLSv1_3';
  const san_type = 'URI';
  return {
    name: 'envoy.transport_sockets.tls',
    typed_config: typed(`transport_sockets.tls.v3.${kind}`, {
      ...more,
      common_tls_context: {
        alpn_protocols: ['h2'],
        tls_params: { tls_minimum_protocol_version: version, tls_maximum_protocol_version: version },
        tls_certificates: [{ certificate_chain: { filename: pems.chain }, private_key: { filename: pems.key } }],
        validation_context: {
          trusted_ca: { filename: pems.roots },
          match_typed_subject_alt_names: [
            { san_type, matcher: { prefix: `spiffe://${TRUST_DOMAIN}/ns/${NAMESPACE}/` } },
          ],
        },
      },
    }),
  };
}

/** Windows as in facts section 1.7. */
function http2(max_concurrent_streams: number): object {
  return {
    allow_connect: true,
    max_concurrent_streams,
    initial_stream_window_size: 4 << 20,
    initial_connection_window_size: 16 << 20,
  };
}

function accessLog(fields: string): object[] {
  const log_format = {
    text_format_source: { inline_string: `%START_TIME% connection complete ${fields} %BYTES_RECEIVED% %BYTES_SENT%\n` },
  };
  return [
    {
      name: 'envoy.access_loggers.stdout',
      typed_config: typed('access_loggers.stream.v3.StdoutAccessLog', { log_format }),
    },
  ];
}

function typed(name: string, fields: object): object {
  return { '@type': `type.googleapis.com/envoy.extensions.${name}`, ...fields };
}
