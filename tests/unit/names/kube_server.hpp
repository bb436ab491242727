// SPDX-License-Identifier: GPL-2.0-or-later
// A Kubernetes API that does what a test wants (kube_server, a script).
#pragma once

#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <catch2/catch_test_macros.hpp>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "names/eventually.hpp"
#include "names/kubeconfig.hpp"
#include "temporary_folder.hpp"

namespace hptrace::test {

class KubeServer {
public:
    KubeServer() {
        std::string program = HPTRACE_KUBE_SERVER;
        std::string folder = folder_.path().string();
        std::array<char*, 3> arguments{program.data(), folder.data(), nullptr};
        REQUIRE(::posix_spawn(&pid_, program.c_str(), nullptr, nullptr, arguments.data(), environ) == 0);
        REQUIRE(eventually([&] { return std::filesystem::exists(folder_.path() / "port"); }));
        port_ = content("port");
    }
    KubeServer(const KubeServer&) = delete;
    KubeServer(KubeServer&&) = delete;
    KubeServer& operator=(const KubeServer&) = delete;
    KubeServer& operator=(KubeServer&&) = delete;
    ~KubeServer() {
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
    }

    [[nodiscard]] KubeConfig config(const std::string& token = "secret") const {
        KubeConfig config;
        config.server = "https://127.0.0.1:" + port_;
        config.ca.file = path("ca.pem");
        config.token.data = token;
        return config;
    }
    // Whole or not at all: the server may be reading.
    void write(const std::string& name, const std::string& text) const {
        std::ofstream(path(name + ".new")) << text;
        std::filesystem::rename(path(name + ".new"), path(name));
    }
    void behave(const std::string& json) const { write("behaviour", json); }

    [[nodiscard]] std::filesystem::path path(const std::string& name) const { return folder_.path() / name; }
    [[nodiscard]] const std::string& port() const { return port_; }
    // "path token client-certificate host"
    [[nodiscard]] std::vector<std::string> requests() const {
        std::istringstream text(content("requests"));
        std::vector<std::string> lines;
        for (std::string line; std::getline(text, line);) {
            lines.push_back(line);
        }
        return lines;
    }

private:
    [[nodiscard]] std::string content(const std::string& name) const {
        std::ostringstream text;
        text << std::ifstream(path(name)).rdbuf();
        return text.str();
    }

    TemporaryFolder folder_;
    pid_t pid_ = 0;
    std::string port_;
};

}  // namespace hptrace::test
