/** What {@link podMode} is told about one pod. Everything has a default; `podMode()` is what Istio does to a pod. */
export interface PodModeOptions {
  /** Redirects IPv6 too. Default true; false where the pod has none (`net.ipv6.conf.lo.disable_ipv6=1`). */
  readonly ipv6?: boolean;
  /** DNS queries of the pod, UDP and TCP, go to port 15053. Default true; a pod's annotation goes before the mesh's setting. */
  readonly captureDns?: boolean;
  /** The pod is a gateway: what comes in is not redirected. Default false. */
  readonly ingress?: boolean;
  /**
   * Devices that virtual machines in the pod send by (`ambient.istio.io/reroute-virtual-interfaces`): TCP that comes in by them is the
   * pod's own, so it goes out through the proxy.
   */
  readonly virtualInterfaces?: readonly string[];
  /**
   * How inbound plaintext comes to the proxy. `redirect`, the default, rewrites the destination, as Istio 1.24 and later do; `tproxy`
   * leaves the packet as it is, as 1.21 to 1.23 did (facts section 7.5), and needs transparent listeners.
   */
  readonly inbound?: 'redirect' | 'tproxy';
  /** Where the node's probes come from, see {@link hostProbes}. Default {@link PROBE_IP} and {@link PROBE_IP6}. */
  readonly probeIp?: string;
  readonly probeIp6?: string;
  /** Prefix of tables. Default `istio-ambient`. */
  readonly name?: string;
}

/** Role of a pod-mode plan: the pod's namespace. */
export const POD_ROLE = 'pod';

/** Where the kubelet's probes come from, as pods see it (facts section 7.1: HOST_PROBE_SNAT_IP, HOST_PROBE_SNAT_IPV6). */
export const PROBE_IP = '169.254.7.127';
export const PROBE_IP6 = 'fd16:9254:7127:1337:ffff:ffff:ffff:ffff';
