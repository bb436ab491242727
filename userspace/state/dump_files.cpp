// SPDX-License-Identifier: GPL-2.0-or-later
#include "state/dump_files.hpp"

#include <cstddef>
#include <system_error>
#include <utility>

#include "base/file.hpp"

namespace hptrace {
namespace {

// The tools' output for some 100,000 Services.
constexpr std::size_t most_of_file = 256UL * 1024 * 1024;

void end_lines_with_newlines_alone(std::string& text) {
    std::size_t to = 0;
    for (std::size_t from = 0; from < text.size(); ++from) {
        if (text[from] != '\r' || from + 1 == text.size() || text[from + 1] != '\n') {
            text[to++] = text[from];
        }
    }
    text.resize(to);
}

}  // namespace

bool is_there(const std::filesystem::path& folder, const DumpFile& file) {
    std::error_code ignored;
    return std::filesystem::exists(folder / file.name, ignored);
}

Result<std::optional<std::string>> read_dump_file(const std::filesystem::path& folder, const DumpFile& file) {
    auto raw = read_file(folder / file.name, most_of_file);
    if (!raw && is_absent(raw.error())) {
        return std::nullopt;
    }
    if (!raw) {
        return std::unexpected(raw.error());
    }
    auto text = plain_text(*std::move(raw), file.format);
    if (!text) {
        return std::unexpected(text.error());
    }
    return *std::move(text);
}

Result<std::string> plain_text(std::string raw, DumpFormat format) {
    constexpr std::string_view utf8_mark = "\xef\xbb\xbf";
    if (raw.starts_with("\xff\xfe") || raw.starts_with("\xfe\xff")) {
        return failure("UTF-16 text", "PowerShell's > makes it; save it as UTF-8");
    }
    if (raw.starts_with(utf8_mark)) {
        raw.erase(0, utf8_mark.size());
    }
    if (raw.find('\0') != std::string::npos) {
        return failure("NUL bytes in it: not written to its end, or not text");
    }
    if (raw.find("\r\n") != std::string::npos) {
        end_lines_with_newlines_alone(raw);
    }
    if (format == DumpFormat::save && !raw.empty() && !raw.ends_with('\n')) {
        return failure("its last line has no end: cut off");
    }
    return raw;
}

}  // namespace hptrace
