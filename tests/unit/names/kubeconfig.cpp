// SPDX-License-Identifier: GPL-2.0-or-later
#include "names/kubeconfig.hpp"

#include <fmt/format.h>

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <cstdlib>

#include "temporary_folder.hpp"

using namespace hptrace;

namespace {

// `cluster`, `user`: more lines of theirs.
std::string kubeconfig(const std::string& cluster, const std::string& user) {
    return "apiVersion: v1\nkind: Config\ncurrent-context: here\n"
           "contexts:\n- name: other\n  context: {cluster: nowhere, user: nobody}\n"
           "- name: here\n  context: {cluster: prod, user: reader}\n"
           "clusters:\n- name: prod\n  cluster:\n    server: https://192.168.0.1:6443/\n" +
           cluster + "users:\n- name: reader\n  user:\n    client-certificate-data:\n" + user;
}

Result<KubeConfig> parsed(const std::string& cluster, const std::string& user) {
    return parse_kubeconfig(kubeconfig(cluster, user), "/etc/kubernetes");
}

}  // namespace

TEST_CASE("the current context of a kubeconfig says where and who") {
    const auto config = parsed("    certificate-authority: pki/ca.crt\n    tls-server-name: kubernetes\n",
                               "    client-certificate: /var/lib/kubelet/pki/current.pem\n"
                               "    client-key: ../keys/kubelet.key\n");
    REQUIRE(config);
    CHECK(config->server == "https://192.168.0.1:6443");
    CHECK_FALSE(config->in_cluster);
    CHECK(config->tls_server_name == "kubernetes");
    CHECK(config->ca.file == "/etc/kubernetes/pki/ca.crt");
    CHECK(config->client_certificate.file == "/var/lib/kubelet/pki/current.pem");
    CHECK(config->client_key.file == "/etc/kubernetes/../keys/kubelet.key");
    CHECK(config->token.empty());
}

TEST_CASE("a kubeconfig can hold certificates and token itself") {
    const auto config = parsed(
        "    certificate-authority-data: UEVNIG9mIENB\n    certificate-authority: ca.crt\n    "
        "insecure-skip-tls-verify: "
        "false\n",
        "    token: abc.def\n    exec: null\n");
    REQUIRE(config);
    CHECK(config->ca.data == "PEM of CA");
    CHECK(config->ca.file.empty());
    CHECK(config->token.data == "abc.def");
    CHECK(parsed("", "    token: abc\n    tokenFile: t\n")->token.file == "/etc/kubernetes/t");
}

TEST_CASE("a kubeconfig that wants what hptrace does not do is refused with the reason") {
    const auto [cluster, user, why] = GENERATE(table<std::string, std::string, std::string>({
        {"", "    exec: {apiVersion: client.authentication.k8s.io/v1, command: aws}\n",
         "exec: hptrace runs no program"},
        {"", "    auth-provider: {name: gcp}\n", "auth-provider: hptrace runs no program"},
        {"", "    username: admin\n    password: admin\n", "username: "},
        {"", "    as: admin\n", "as: "},
        {"", "    client-key: a.key\n", "a client certificate needs its key"},
        {"    insecure-skip-tls-verify: true\n", "", "insecure-skip-tls-verify: "},
        {"    proxy-url: http://10.0.0.1:3128\n", "", "proxy-url: "},
        {"    certificate-authority-data: '***'\n", "", "certificate-authority-data is not base64"},
        {"    tls-server-name: [a, b]\n", "", "tls-server-name is not a text"},
    }));
    const auto config = parsed(cluster, user);
    REQUIRE_FALSE(config);
    CHECK(config.error().what.starts_with(why));
    CHECK(config.error().what.find('\n') == std::string::npos);
}

TEST_CASE("bytes that are not base64 are refused, whatever they are") {
    for (const std::string text : {"\xc3\xa9", "AAA\xc3\xa9", "AAA", "AAAA=", "QUJD QUJD", "\xf0\x9f\x98\x80"}) {
        for (const auto* const key :
             {"certificate-authority-data", "tls-server-name: a\n    certificate-authority-data"}) {
            CAPTURE(text);
            const auto config = parsed(fmt::format("    {}: '{}'\n", key, text), "    token: abc\n");
            REQUIRE_FALSE(config);
            CHECK(config.error().what == "certificate-authority-data is not base64");
        }
        CHECK_FALSE(parsed("", fmt::format("    client-key-data: '{}'\n    client-certificate-data: QUJD\n", text)));
    }
    CHECK(parsed("    certificate-authority-data: |\n      QUJD\n      QUJD\n", "    token: abc\n")->ca.data ==
          "ABCABC");
}

TEST_CASE("a kubeconfig that is none but large, deep or full of aliases is refused at once") {
    const auto repeated = [](const std::string& part) {
        std::string text;
        while (text.size() + part.size() < 1U << 20U) {
            text += part;
        }
        return text;
    };
    const std::string anchor = "a: &a [x]\nb: ";
    const auto text = GENERATE_COPY(repeated("["), repeated("{a: "), repeated("- "), repeated("- x\n"),
                                    anchor + "[" + repeated("*a, "), repeated("? "), "'" + repeated("x"),
                                    repeated("\t"), repeated("!<tag:x> a: b\n"));
    const auto config = parse_kubeconfig(text, "/");
    REQUIRE_FALSE(config);
    CHECK(config.error().what.size() < 200);
}

TEST_CASE("a message about a kubeconfig does not quote all of a long value") {
    const std::string longest(500'000, 'x');
    for (const auto& text :
         {"current-context: " + longest,
          "current-context: x\ncontexts: [{name: x, context: {cluster: " + longest + "}}]",
          "current-context: x\ncontexts: [{name: x, context: {cluster: c}}]\nclusters: [{name: c, cluster: "
          "{server: " +
              longest + "}}]",
          "current-context: x\ncontexts: [{name: x, context: {cluster: c}}]\nclusters: [{name: c, cluster: "
          "{server: https://" +
              longest + "}}]"}) {
        const auto config = parse_kubeconfig(text, "/");
        REQUIRE_FALSE(config);
        CHECK(config.error().what.size() < 200);
    }
}

TEST_CASE("a broken kubeconfig is one error") {
    const auto [text, why] = GENERATE(table<std::string, std::string>({
        {"a: [", "line "},
        {"just words", "not a kubeconfig"},
        {"[]", "not a kubeconfig"},
        {"kind: Config", "it has no current-context"},
        {"current-context: x", "there is no context 'x'"},
        {"current-context: x\ncontexts: 5", "there is no context 'x'"},
        {"current-context: x\ncontexts: [7, {name: x}]", "context 'x' has no content"},
        {"current-context: x\ncontexts: [{name: x, context: {cluster: c}}]", "there is no cluster 'c'"},
        {"current-context: x\ncontexts: [{name: x, context: {cluster: c}}]\nclusters: [{name: c, cluster: {server: "
         "'http://a'}}]",
         "server 'http://a' is not https://"},
        {"current-context: {a: b}", "current-context is not a text"},
    }));
    const auto config = parse_kubeconfig(text, "/");
    REQUIRE_FALSE(config);
    CHECK(config.error().what.starts_with(why));
}

TEST_CASE("a pod's account is found by its files and variables") {
    const auto config = in_cluster_config("/account", "10.96.0.1", "443");
    REQUIRE(config);
    CHECK(config->server == "https://10.96.0.1:443");
    CHECK(config->in_cluster);
    CHECK(config->ca.file == "/account/ca.crt");
    CHECK(config->token.file == "/account/token");
    CHECK(in_cluster_config("/account", "fd00:10:96::1", "443")->server == "https://[fd00:10:96::1]:443");
    CHECK_FALSE(in_cluster_config("/account", "", ""));
    CHECK_FALSE(in_cluster_config("/account", "10.96.0.1", "https"));
}

TEST_CASE("credentials are read anew, and must be fit for a header") {
    const TemporaryFolder folder;
    KubeConfig config;
    config.token.file = folder.path() / "token";
    CHECK_FALSE(read_credentials(config));
    folder.write("token", "first\n");
    CHECK(read_credentials(config)->token == "first");
    folder.write("token", "second");
    CHECK(read_credentials(config)->token == "second");
    folder.write("token", "two\r\nHost: elsewhere");
    CHECK_FALSE(read_credentials(config));
    folder.write("token", "");
    CHECK_FALSE(read_credentials(config));
    folder.write("token", "\n");
    CHECK_FALSE(read_credentials(config));
    CHECK(read_credentials(KubeConfig())->token.empty());
}

TEST_CASE("a kubeconfig file is read with what it names") {
    const TemporaryFolder folder;
    folder.write("config", kubeconfig("    certificate-authority: ca.crt\n", "    tokenFile: token\n"));
    const auto place = (folder.path() / "config").string();
    const auto early = read_kubeconfig(place);
    REQUIRE_FALSE(early);
    CHECK(early.error().what.starts_with("kubeconfig " + place + ": cannot read "));
    folder.write("ca.crt", "CA");
    folder.write("token", "abc");
    CHECK(read_kubeconfig(place));
    CHECK_FALSE(read_kubeconfig((folder.path() / "none").string()));
    CHECK_FALSE(read_kubeconfig(folder.path().string()));
}
