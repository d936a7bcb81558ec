import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MeshFileError, parseMeshFile } from '../../src/discovery/index.ts';

const parse = (text: string) => parseMeshFile('mesh.yaml', text);
/** The refusal of a text: `field line:column reason`. */
function refusal(text: string, limits = {}): string {
  try {
    parseMeshFile('mesh.yaml', text, limits);
  } catch (error) {
    if (!(error instanceof MeshFileError)) throw error;
    const reason = error.message.replace(/^discovery\.file: /, '').replace(/ \(mesh\.yaml[^)]*\)$/, '');
    return `${error.line}:${error.column} ${reason}`;
  }
  throw new Error('was accepted');
}

const whole = `
workloads:
  - uid: Kubernetes//Pod/default/httpbin
    name: httpbin
    namespace: default
    workloadIps: ["10.2.0.9", "2001:DB8::9", "::ffff:10.2.0.10"]
    network: west
    trustDomain: cluster.local
    serviceAccount: httpbin
    workloadName: httpbin
    workloadType: deployment
    canonicalName: httpbin
    canonicalRevision: v1
    hostname: httpbin.example
    node: node-b
    clusterId: Kubernetes
    protocol: HBONE
    networkMode: HostNetwork
    waypoint: {destination: west/10.2.0.77, hboneMtlsPort: 15008}
    networkGateway: {destination: istio-system/gateway.example, hboneMtlsPort: 15443}
    applicationTunnel: {protocol: PROXY, port: 15088}
    authorizationPolicies: [default/strict]
    status: Unhealthy
    locality: {region: r, zone: z, subzone: s}
    capacity: 3
    nativeTunnel: true
    services:
      default/httpbin.default.svc.cluster.local:
        80: 8080
        443: 0
services:
  - name: httpbin
    namespace: default
    hostname: httpbin.default.svc.cluster.local
    vips: [/10.96.0.105, "west/2001:DB8::1"]
    cidrVips: [{network: west, cidr: 10.5.1.1/16}, {cidr: 2001:db8::/32}]
    ports: {80: 8080, "443": 0}
    endpoints:
      Kubernetes//Pod/default/other: {workloadUid: Kubernetes//Pod/default/other, port: {80: 8081}, status: Healthy}
    subjectAltNames: [spiffe://cluster.local/ns/default/sa/httpbin]
    waypoint: {destination: default/waypoint.example, hboneMtlsPort: 15008}
    weightedWaypoints:
      - {destination: {destination: /10.0.0.1, hboneMtlsPort: 15008}, weight: 90}
      - {destination: {destination: /10.0.0.2, hboneMtlsPort: 15008}, weight: 0}
    loadBalancer: {routingPreferences: [Network, Region], mode: Failover, healthPolicy: AllowAll}
    ipFamilies: Dual
    canonical: true
    visibility: Namespace
policies:
  - name: deny
    namespace: default
    scope: WorkloadSelector
    action: Deny
    dryRun: false
    rules:
      - - - namespaces: [!Exact other]
            notNamespaces: [!Prefix kube-]
            principals: [!Suffix /sa/sleep, !Presence []]
            notPrincipals: [!Presence ]
            sourceIps: [10.0.0.0/8]
            notSourceIps: ["2001:db8::/32"]
            destinationIps: [10.2.0.9/32]
            notDestinationIps: []
            destinationPorts: [80, 443]
            notDestinationPorts: [8080]
            serviceAccounts: [{namespace: default, serviceAccount: sleep}]
            notServiceAccounts: []
        - []
      - []
`;

describe('parseMeshFile (facts section 4.10)', () => {
  it('reads every key there is', () => {
    expect(parse(whole)).toEqual({
      workloads: [
        {
          uid: 'Kubernetes//Pod/default/httpbin',
          name: 'httpbin',
          namespace: 'default',
          workloadIps: ['10.2.0.9', '2001:db8::9', '10.2.0.10'],
          network: 'west',
          trustDomain: 'cluster.local',
          serviceAccount: 'httpbin',
          workloadName: 'httpbin',
          workloadType: 'deployment',
          canonicalName: 'httpbin',
          canonicalRevision: 'v1',
          hostname: 'httpbin.example',
          node: 'node-b',
          clusterId: 'Kubernetes',
          protocol: 'HBONE',
          networkMode: 'HostNetwork',
          waypoint: { destination: 'west/10.2.0.77', hboneMtlsPort: 15008 },
          networkGateway: { destination: 'istio-system/gateway.example', hboneMtlsPort: 15443 },
          applicationTunnel: { protocol: 'PROXY', port: 15088 },
          authorizationPolicies: ['default/strict'],
          status: 'Unhealthy',
          locality: { region: 'r', zone: 'z', subzone: 's' },
          capacity: 3,
          nativeTunnel: true,
          services: { 'default/httpbin.default.svc.cluster.local': { 80: 8080, 443: 0 } },
        },
      ],
      services: [
        {
          name: 'httpbin',
          namespace: 'default',
          hostname: 'httpbin.default.svc.cluster.local',
          vips: ['/10.96.0.105', 'west/2001:db8::1'],
          cidrVips: [
            { network: 'west', cidr: '10.5.0.0/16' },
            { network: '', cidr: '2001:db8::/32' },
          ],
          ports: { 80: 8080, 443: 0 },
          endpoints: {
            'Kubernetes//Pod/default/other': {
              workloadUid: 'Kubernetes//Pod/default/other',
              port: { 80: 8081 },
              status: 'Healthy',
            },
          },
          subjectAltNames: ['spiffe://cluster.local/ns/default/sa/httpbin'],
          waypoint: { destination: 'default/waypoint.example', hboneMtlsPort: 15008 },
          weightedWaypoints: [
            { destination: { destination: '/10.0.0.1', hboneMtlsPort: 15008 }, weight: 90 },
            { destination: { destination: '/10.0.0.2', hboneMtlsPort: 15008 }, weight: 0 },
          ],
          loadBalancer: { routingPreferences: ['Network', 'Region'], mode: 'Failover', healthPolicy: 'AllowAll' },
          ipFamilies: 'Dual',
          canonical: true,
          visibility: 'Namespace',
        },
      ],
      policies: [
        {
          name: 'deny',
          namespace: 'default',
          scope: 'WorkloadSelector',
          action: 'Deny',
          dryRun: false,
          rules: [
            [
              [
                {
                  namespaces: [{ exact: 'other' }],
                  notNamespaces: [{ prefix: 'kube-' }],
                  principals: [{ suffix: '/sa/sleep' }, { presence: true }],
                  notPrincipals: [{ presence: true }],
                  sourceIps: ['10.0.0.0/8'],
                  notSourceIps: ['2001:db8::/32'],
                  destinationIps: ['10.2.0.9/32'],
                  notDestinationIps: [],
                  destinationPorts: [80, 443],
                  notDestinationPorts: [8080],
                  serviceAccounts: [{ namespace: 'default', serviceAccount: 'sleep' }],
                  notServiceAccounts: [],
                },
              ],
              [],
            ],
            [],
          ],
        },
      ],
    });
  });

  it('leaves empty what the file leaves out: no defaults of a control plane', () => {
    const [workload] = parse('workloads: [{name: w, namespace: ns, workloadIps: [], services: {}}]').workloads;
    expect(workload).toEqual({
      uid: 'local//ns/w',
      name: 'w',
      namespace: 'ns',
      workloadIps: [],
      network: '',
      trustDomain: '',
      serviceAccount: '',
      workloadName: '',
      workloadType: '',
      canonicalName: '',
      canonicalRevision: '',
      hostname: '',
      node: '',
      clusterId: '',
      protocol: 'TCP',
      networkMode: 'Standard',
      authorizationPolicies: [],
      status: 'Healthy',
      locality: { region: '', zone: '', subzone: '' },
      capacity: 1,
      nativeTunnel: false,
      services: {},
    });
    const [service] = parse(
      'services: [{name: s, namespace: ns, hostname: h, vips: [], ports: {}, waypoint: null}]',
    ).services;
    expect(service).toEqual({
      name: 's',
      namespace: 'ns',
      hostname: 'h',
      vips: [],
      cidrVips: [],
      ports: {},
      endpoints: {},
      subjectAltNames: [],
      weightedWaypoints: [],
      canonical: false,
      visibility: 'Public',
    });
  });

  it('reads JSON, which is YAML, and an empty mesh', () => {
    expect(
      parse('{"workloads":[{"name":"w","namespace":"n","workloadIps":["10.0.0.1"],"services":{"n/h":{"80":8080}}}]}')
        .workloads[0]?.services,
    ).toEqual({ 'n/h': { 80: 8080 } });
    expect(parse('{}')).toEqual({ workloads: [], services: [], policies: [] });
  });

  it('reads what an alias stands for', () => {
    const { workloads } = parse(`workloads:
  - &w {name: a, namespace: &ns n, workloadIps: [], services: {}}
  - {name: b, namespace: *ns, workloadIps: [], services: {}}
`);
    expect(workloads.map(({ name, namespace }) => `${namespace}/${name}`)).toEqual(['n/a', 'n/b']);
  });

  it('keeps a key named __proto__ a key', () => {
    const { services } = parse(
      'services: [{name: s, namespace: n, hostname: h, vips: [], ports: {}, endpoints: {__proto__: {port: {}}}}]',
    );
    expect(Object.keys(services[0]!.endpoints)).toEqual(['__proto__']);
    expect(({} as Record<string, unknown>).port).toBeUndefined();
  });
});

describe('parseMeshFile refuses, with place and path', () => {
  const w = (rest: string) => `workloads:\n- {name: w, namespace: ns, workloadIps: [], services: {}${rest}}\n`;
  const s = (rest: string) => `services:\n- {name: s, namespace: ns, hostname: h, vips: [], ports: {}${rest}}\n`;
  const p = (rest: string) =>
    `policies:\n- {name: p, namespace: ns, scope: Global, action: Deny, dryRun: false${rest}}\n`;
  const m = (match: string) => p(`, rules: [[[{${match}}]]]`);
  it.each([
    ['nothing', '', '1:1 the file is empty'],
    ['a comment only', '# later\n', '1:1 the file is empty'],
    ['null', '~\n', '1:1 expected a mapping, got nothing'],
    ['a list (the old format)', '- name: local\n', '1:1 expected a mapping, got a list'],
    ['two documents', '{}\n---\n{}\n', '2:1 more than one document'],
    ['a list cut off after its key', 'workloads:\n', '1:11 workloads: expected a list, got nothing'],
    [
      'broken YAML',
      'workloads: [\n',
      '2:1 Flow sequence in block collection must be sufficiently indented and end with a ]',
    ],
    [
      'an unknown key at the top',
      'workload: []\n',
      '1:1 workload: unknown key "workload"; known here: workloads, services, policies',
    ],
    [
      'an unknown key',
      'policies:\n- name: p\n  dryrun: true\n',
      '3:3 policies[0].dryrun: unknown key "dryrun"; known here: name, namespace, scope, action, dryRun, rules',
    ],
    ['a key twice', 'services: []\nservices: []\n', '2:1 the key "services" is there twice'],
    ['a merge key', 'workloads:\n- <<: {}\n', undefined],
    [
      'a missing key',
      'workloads:\n- {name: w, workloadIps: [], services: {}}\n',
      '2:3 workloads[0]: the key "namespace" is missing',
    ],
    [
      'missing services',
      'workloads:\n- {name: w, workloadIps: [], namespace: ns}\n',
      '2:3 workloads[0]: the key "services" is missing',
    ],
    [
      'a number for a text',
      w(', canonicalRevision: 1.10'),
      '2:78 workloads[0].canonicalRevision: expected a text, got 1.1 (put it in quotes)',
    ],
    ['a text for a number', w(', capacity: "1"'), '2:69 workloads[0].capacity: expected an integer, got the text "1"'],
    ['a negative number', w(', capacity: -1'), '2:69 workloads[0].capacity: -1 is not from 0 to 4294967295'],
    ['a fraction', w(', capacity: 1.5'), '2:69 workloads[0].capacity: expected an integer, got 1.5'],
    [
      'a text for a boolean',
      w(', nativeTunnel: yes'),
      '2:73 workloads[0].nativeTunnel: expected true or false, got the text "yes"',
    ],
    [
      'another spelling of an enum',
      w(', protocol: hbone'),
      '2:69 workloads[0].protocol: "hbone" is none of HBONE, TCP',
    ],
    [
      'an enum of another key',
      w(', status: Standard'),
      '2:67 workloads[0].status: "Standard" is none of Healthy, Unhealthy',
    ],
    ['a mapping for a text', w(', node: {}'), '2:65 workloads[0].node: expected a text, got a mapping'],
    [
      'a bad address',
      'workloads: [{workloadIps: [10.0.0.1, 10.0.0.256]}]',
      '1:38 workloads[0].workloadIps[1]: "10.0.0.256" is no IP address',
    ],
    [
      'an empty namespace',
      'workloads: [{workloadIps: [], namespace: ""}]',
      '1:42 workloads[0].namespace: must not be empty',
    ],
    [
      'a service key without a slash',
      'workloads: [{workloadIps: [], namespace: n, services: {h: {}}}]',
      '1:56 workloads[0].services["h"]: the key "h" is no namespace/hostname',
    ],
    [
      'a port out of range',
      'workloads: [{workloadIps: [], namespace: n, services: {n/h: {80: 65536}}}]',
      '1:66 workloads[0].services["n/h"]["80"]: 65536 is not from 0 to 65535',
    ],
    [
      'a port key out of range',
      s(', endpoints: {u: {port: {0: 1}}}'),
      '2:85 services[0].endpoints["u"].port["0"]: the key "0" is no port',
    ],
    [
      'a gateway nowhere',
      w(', waypoint: {destination: somewhere, hboneMtlsPort: 1}'),
      '2:83 workloads[0].waypoint.destination: "somewhere" is neither network/ip nor namespace/hostname',
    ],
    [
      'a gateway without port',
      w(', waypoint: {destination: /10.0.0.1}'),
      '2:69 workloads[0].waypoint: the key "hboneMtlsPort" is missing',
    ],
    [
      'a VIP without its network',
      'services: [{name: s, namespace: n, hostname: h, vips: [10.0.0.1]}]',
      '1:56 services[0].vips[0]: "10.0.0.1" is no network/ip (the default network: "/ip")',
    ],
    [
      'a bad CIDR VIP',
      s(', cidrVips: [{cidr: 10.0.0.0/33}]'),
      '2:80 services[0].cidrVips[0].cidr: "10.0.0.0/33" is no address/prefix',
    ],
    [
      'a slash in a host name',
      'services: [{name: s, namespace: n, hostname: a/b}]',
      '1:46 services[0].hostname: namespace and hostname must not contain a slash',
    ],
    [
      'an endpoint under another uid',
      s(', endpoints: {u: {workloadUid: v}}'),
      '2:91 services[0].endpoints["u"].workloadUid: differs from the key "u" it stands under',
    ],
    [
      'a load balancer without mode',
      s(', loadBalancer: {}'),
      '2:76 services[0].loadBalancer: the key "mode" is missing',
    ],
    [
      'an unspecified preference',
      s(', loadBalancer: {mode: Strict, routingPreferences: [Unspecified]}'),
      '2:112 services[0].loadBalancer.routingPreferences[0]: "Unspecified" is none of Region, Zone, Subzone, Node, Cluster, Network',
    ],
    ['a policy without rules', p(''), '2:3 policies[0]: the key "rules" is missing'],
    ['a rule that is no list', p(', rules: [{}]'), '2:80 policies[0].rules[0]: expected a list, got a mapping'],
    [
      'a match that is no mapping',
      p(', rules: [[[x]]]'),
      '2:82 policies[0].rules[0][0][0]: expected a mapping, got the text "x"',
    ],
    [
      'a string match without a tag',
      m('principals: [x]'),
      '2:96 policies[0].rules[0][0][0].principals[0]: a string match is written !Exact x, !Prefix x, !Suffix x or !Presence []',
    ],
    [
      'a string match as a mapping',
      m('principals: [{Exact: x}]'),
      '2:96 policies[0].rules[0][0][0].principals[0]: a string match is written !Exact x, !Prefix x, !Suffix x or !Presence []',
    ],
    [
      'an unknown tag',
      m('principals: [!Regex x]'),
      '2:103 policies[0].rules[0][0][0].principals[0]: a string match is written !Exact x, !Prefix x, !Suffix x or !Presence []',
    ],
    [
      'a presence of something',
      m('principals: [!Presence [x]]'),
      '2:106 policies[0].rules[0][0][0].principals[0]: !Presence takes no value: write !Presence []',
    ],
    [
      'an exact list',
      m('principals: [!Exact [x]]'),
      '2:103 policies[0].rules[0][0][0].principals[0]: expected a text, got a list',
    ],
    [
      'a bare address for a range',
      m('sourceIps: [10.0.0.1]'),
      '2:95 policies[0].rules[0][0][0].sourceIps[0]: "10.0.0.1" is no range of the form address/prefix',
    ],
    [
      'a null list of a match',
      m('sourceIps: null'),
      '2:94 policies[0].rules[0][0][0].sourceIps: expected a list, got nothing',
    ],
    [
      'a port as a text',
      m('destinationPorts: ["80"]'),
      '2:102 policies[0].rules[0][0][0].destinationPorts[0]: expected an integer, got the text "80"',
    ],
    ['a tag where none belongs', w(', node: !Exact x'), '2:72 workloads[0].node: the tag "!Exact" has no meaning here'],
    ['an alias of nothing', w(', node: *x'), '2:65 workloads[0].node: no anchor for the alias "x"'],
    [
      'a uid twice',
      'workloads:\n- {name: w, namespace: n, workloadIps: [], services: {}}\n- {name: w, namespace: n, workloadIps: [], services: {}}\n',
      '3:3 workloads[1]: a second one of "local//n/w"',
    ],
    [
      'a service twice',
      'services:\n- {name: a, namespace: n, hostname: h, vips: [], ports: {}}\n- {name: b, namespace: n, hostname: h, vips: [], ports: {}}\n',
      '3:3 services[1]: a second one of "n/h"',
    ],
  ])('%s', (_what, text, expected) => {
    if (expected === undefined) expect(refusal(text)).toContain('unknown key "<<"');
    else expect(refusal(text)).toBe(expected);
  });

  it('nesting deeper than a stack', () => {
    for (const opening of ['[', '- ', '{a: ', '? ']) {
      expect(refusal(opening.repeat(10_000))).toMatch(/^1:\d+ nested too deeply$/);
    }
  });

  it('more entries than maxEntries', () => {
    expect(refusal(whole, { maxEntries: 2 })).toBe(
      'undefined:undefined policies[0]: more than 2 workloads, services and policies',
    );
    expect(parseMeshFile('mesh.yaml', whole, { maxEntries: 3 }).policies).toHaveLength(1);
  });

  it('an alias bomb: what is behind an alias counts each time', () => {
    const bomb = `workloads:
- {namespace: n, workloadIps: &ips [${'10.0.0.1,'.repeat(1000)}], services: {}, name: w}
${Array.from({ length: 1000 }, (_, at) => `- {namespace: n, workloadIps: *ips, services: {}, name: w${at}}`).join('\n')}
`;
    expect(refusal(bomb, { maxValues: 100_000 })).toContain('more than 100000 values');
  });

  it('an alias of its own ancestor', () => {
    expect(refusal('workloads: &all\n- *all\n')).toBe('2:3 workloads[0]: expected a mapping, got a list');
  });

  it('property: any cut of a good file is refused or is a smaller mesh, never another fault', () => {
    fc.assert(
      fc.property(fc.nat({ max: whole.length }), (length) => {
        try {
          const mesh = parse(whole.slice(0, length));
          expect(mesh.workloads.length + mesh.services.length + mesh.policies.length).toBeGreaterThan(0);
        } catch (error) {
          expect(error).toBeInstanceOf(MeshFileError);
        }
      }),
    );
  });

  it('property: any text is refused or read, never another fault', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 200 }), (text) => {
        try {
          parse(text);
        } catch (error) {
          expect(error).toBeInstanceOf(MeshFileError);
        }
      }),
    );
  });
});
