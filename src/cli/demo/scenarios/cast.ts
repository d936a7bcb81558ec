/** Who plays in the scenarios: the lab's `twoNodes()`. */
export const CLIENT = { name: 'sleep', ip: '10.244.1.10', veth: 'vethsleep' } as const;
export const CLIENT2 = { name: 'client2', ip: '10.244.1.11', port: 80 } as const;
export const HTTPBIN = { name: 'httpbin', ip: '10.244.2.10', port: 80 } as const;
export const OUTSIDE = { name: 'outside', ip: '172.18.0.100', far: '203.0.113.10', port: 8080 } as const;
export const VIP = '10.96.0.105';
export const VIP_PORT = 80;
/** The address that node-a gives to what leaves the cluster. */
export const NODE_A_IP = '172.18.0.2';
/** Carries what must not be read on the link; the servers send it back. */
export const MARKER_HEADER = 'x-demo-marker';
/** What the node's probes come from in pod mode: the plan's default. */
export { PROBE_IP } from '../../../redirection/index.ts';
