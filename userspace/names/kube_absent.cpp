// SPDX-License-Identifier: GPL-2.0-or-later
// In place of the Kubernetes API where hptrace is built without it (HPTRACE_KUBE_API).
#include "names/kube_list.hpp"
#include "names/kubeconfig.hpp"

namespace hptrace {

namespace {

constexpr auto absent = "this hptrace was built without the Kubernetes API";

}  // namespace

Result<KubeConfig> read_kubeconfig(const std::string& /*place*/) {
    return failure(absent);
}

Result<KubeLister> make_kube_lister(const KubeConfig& /*config*/, const std::string& /*node*/,
                                    KubeClient::Limits /*limits*/) {
    return failure(absent);
}

}  // namespace hptrace
